"""The comparison for TensorBoard: HParams, and curves overlaid and grouped by block.

    BOARD/<run>              HParams, figures and costs; the curves as <variant>/<curve>
    BOARD/mean-<variant>     the curves' means over seeds, with their least and greatest

So the seeds of a block share a chart, and so do the means of all blocks, each in its own colour.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tacoskip.ablation.collect import DONE, Run
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.events import mean_curve

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUFFIX = ".comparison"


def write_board(comparison: Comparison, folder: Path) -> Path:
    """Write the event files of a comparison into a folder, in place of those of an earlier one.

    Keep it apart from the run folders, e.g. RUNS/board. Returns the folder. Raises OSError when it
    cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(folder)
    for old in folder.rglob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    seen = {tag for run in comparison.runs if run.state == DONE for tag in run.events.scalars}
    tags = ["train/loss", *(f"validation/{figure}" for figure in comparison.figures)]
    tags = [tag for tag in tags if tag in seen]
    layout = {"all blocks: mean, least and greatest over seeds": _margins(tags)}
    for variant in comparison.variants:
        runs = comparison.finished(variant.name)
        for run in runs:
            with SummaryWriter(str(folder / run.name), filename_suffix=SUFFIX) as writer:
                _write_hparams(writer, run, variant.block, variant.depth)
                _write_curves(writer, [run], {tag: f"{variant.name}/{tag}" for tag in tags})
        if runs:
            name = re.sub(r"[^\w@=.,-]+", "_", variant.name)[:100]
            with SummaryWriter(str(folder / f"mean-{name}"), filename_suffix=SUFFIX) as writer:
                _write_curves(writer, runs, {tag: tag for tag in tags}, margins=True)
            own = re.escape(variant.name)
            layout[variant.name] = {tag: ["Multiline", [f"^{own}/{tag}$"]] for tag in tags}
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        writer.add_custom_scalars(layout)
    return folder


def _write_hparams(writer: "SummaryWriter", run: Run, block: str, depth: int | None) -> None:
    from torch.utils.tensorboard.summary import hparams

    settings: dict[str, str | int] = {"variant": run.variant, "block": block, "seed": run.seed}
    if depth is not None:
        settings["depth"] = depth
    metrics = {f"figure/{name}": value for name, value in run.figures.items()}
    metrics |= {f"cost/{name}": value for name, value in run.cost.items()}
    for summary in hparams(settings, metrics):
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
    for name, value in metrics.items():
        writer.add_scalar(name, value, run.steps or 0)


def _write_curves(
    writer: "SummaryWriter", runs: list[Run], names: dict[str, str], margins: bool = False
) -> None:
    """Write the runs' mean of each tag under its new name, with margins as name/low and /high."""
    for tag, name in names.items():
        curve = mean_curve([run.events for run in runs], tag)
        if curve is None:
            continue
        lines = {name: curve.mean}
        if margins:
            lines |= {f"{name}/low": curve.low, f"{name}/high": curve.high}
        for line, values in lines.items():
            for step, value in zip(curve.steps, values, strict=True):
                writer.add_scalar(line, value, int(step))


def _margins(tags: list[str]) -> dict[str, list[object]]:
    return {tag: ["Margin", [tag, f"{tag}/low", f"{tag}/high"]] for tag in tags}
