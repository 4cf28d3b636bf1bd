"""The comparison as one self-contained HTML file, from the template report.html."""

from base64 import b64encode
from importlib.resources import files
from pathlib import Path

from tacoskip.ablation import tables
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plan import DONE
from tacoskip.ablation.plots import forest
from tacoskip.ablation.statistics import AA
from tacoskip.files import write_whole


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
        text_columns=tables.TEXT,
        verdicts={name: tables.figure_table(comparison, name) for name in comparison.figures},
        costs=tables.costs(comparison),
        unfinished=tables.unfinished(comparison),
        aa_checks=[
            f"{name} and {one.reference} in {figure}: {one.verdict}"
            for figure, analysis in comparison.analyses.items()
            for name, one in analysis.differences.items()
            if name.endswith(AA)
        ],
        forests={
            name: f"data:image/svg+xml;base64,{b64encode(forest(comparison, name)).decode()}"
            for name, one in comparison.analyses.items()
            if one.differences
        },
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
        f"{len(comparison.variants)} variants",
        "steps": " to ".join(str(step) for step in dict.fromkeys(steps[:1] + steps[-1:])) or "-",
        "minutes per run": f"{sum(minutes) / len(minutes):.1f} (mean)" if minutes else "-",
        "compared on": comparison.date,
    }
