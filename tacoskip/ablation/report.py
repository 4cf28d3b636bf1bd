"""The comparison as one self-contained HTML file, from the template report.html."""

from base64 import b64encode
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tacoskip.ablation import plots, stacks, tables
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plan import DONE
from tacoskip.ablation.statistics import AA, LEVEL
from tacoskip.files import write_whole


@dataclass
class Picture:
    """An image with its alternative text."""

    alt: str
    data: bytes
    kind: str = "svg+xml"

    @property
    def source(self) -> str:
        """The data URI."""
        return f"data:image/{self.kind};base64,{b64encode(self.data).decode()}"


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the report and return its path. Raises OSError when the file cannot be written."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = files("tacoskip.ablation").joinpath("report.html").read_text(encoding="utf-8")
    name = comparison.recipe or comparison.folder.name
    text = environment.from_string(template).render(
        title=f"{name}: skip connections compared",
        comparison=comparison,
        facts=_facts(comparison),
        level=LEVEL,
        text_columns=tables.TEXT,
        **_tables(comparison),
        **_pictures(comparison),
    )
    write_whole(path, text)
    return path


def _facts(comparison: Comparison) -> dict[str, str]:
    done = [run for run in comparison.runs if run.state == DONE]
    steps = sorted({run.steps for run in done if run.steps is not None})
    minutes = [run.minutes for run in done if run.minutes is not None]
    return {
        "folder": str(comparison.folder),
        "recipe": comparison.recipe or "-",
        "overrides": " ".join(comparison.overrides) or "none",
        "baseline": comparison.baseline,
        "runs": f"{len(done)} finished of {len(comparison.runs)}; "
        f"{len(comparison.variants)} variants, {comparison.most_seeds} seeds at most",
        "steps": " to ".join(str(step) for step in dict.fromkeys(steps[:1] + steps[-1:])) or "-",
        "minutes per run": f"{sum(minutes) / len(minutes):.1f} (mean)" if minutes else "-",
        "also differing": ", ".join(comparison.differing) or "nothing but block and seed",
        "compared on": comparison.date,
    }


def _tables(comparison: Comparison) -> dict[str, Any]:
    checks = [
        f"{name} and {one.reference} in {figure}: {one.verdict}"
        for figure, analysis in comparison.analyses.items()
        for name, one in analysis.differences.items()
        if name.endswith(AA)
    ]
    return {
        "verdicts": {name: tables.figure_table(comparison, name) for name in comparison.figures},
        "costs": tables.costs(comparison),
        "unfinished": tables.unfinished(comparison),
        "noise": tables.noise_line(comparison),
        "aa_checks": checks,
    }


def _pictures(comparison: Comparison) -> dict[str, list[Picture]]:
    differing = [name for name, one in comparison.analyses.items() if one.differences]
    known = {name for variant in comparison.variants for name in variant.cost}
    scattered = [name for name in ("parameters", "latency_ms", "peak_memory_mb") if name in known]
    alignments = []
    for variant in comparison.variants:
        first = next(iter(comparison.finished(variant.name)), None)
        if first is not None and first.events.alignment:
            title = f"{variant.name}, seed {first.seed}"
            alignments.append(Picture(title, first.events.alignment, "png"))
    drawn: dict[str, dict[str, bytes]] = {
        "forests": {name: plots.forest(comparison, name) for name in differing},
        "scatters": {name: plots.scatter(comparison, name) for name in scattered},
        "curves": plots.curves(comparison),
        "stacks": stacks.stack_maps(comparison),
    }
    pictures = {
        kind: [Picture(f"{kind}: {name}", data) for name, data in each.items()]
        for kind, each in drawn.items()
    }
    return {**pictures, "alignments": alignments}
