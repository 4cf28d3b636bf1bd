"""`prepare`, `train` and `export`: from a recipe to a run, and on to ONNX graphs."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tacoskip.cli.arguments import Run, Settings, require_place, require_run_folder
from tacoskip.cli.console import Bar, Result, command, log, table
from tacoskip.messages import human_bytes, human_duration

if TYPE_CHECKING:
    from tacoskip.config import Config
    from tacoskip.data.prepare import PrepareReport
    from tacoskip.training import Progress

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEPT_BY = {"too_long": "raise data.max_seconds"}


@command
def prepare(settings: Settings = None) -> Result:
    """Fetch, check and normalise a corpus.

    Fetches it if it is absent, checks every clip, and writes audio, manifest and report.
    Run again to do what is missing. Clips that are left out are counted by reason, and named one
    by one in the report.
    """
    from tacoskip.config import load_arguments

    config = load_arguments(settings or [])
    report = _prepare_corpus(config)
    dropped, file = report.reasons(), report.dir / "report.json"
    values = vars(report) | {"dropped": dropped, "report": str(file)}
    rows = [[why, str(n), KEPT_BY.get(why, "")] for why, n in dropped.items()]
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    count = len(report.speakers)
    lines = [
        f"{human_duration(report.seconds)} by {count} speaker{'s' * (count != 1)}; {splits}",
        f"report: {file}",
    ]
    if folder := config.data.shards:
        from tacoskip.data.prepared import write_shards

        with Bar("shards") as bar:
            tars = write_shards(report.dir, Path(folder), bar.count)
        size = sum(tar.stat().st_size for tar in tars)
        values["shards"] = {"dir": folder, "shards": len(tars), "bytes": size}
        lines.append(f"shards: {len(tars)} of {human_bytes(size)} together, {folder}")
    rows = [["clips", "count", "to keep them"], ["kept", str(report.kept), ""], *rows]
    columns = 3 if any(row[2] for row in rows[1:]) else 2
    head, *rows = (row[:columns] for row in rows)
    return Result(values, [table(head, rows), *lines])


@command
def train(
    settings: Settings = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where to train; the same as train.device=.", show_default=False),
    ] = None,
) -> Result:
    """Train a voice or a recognizer; run again to resume.

    from=RUN starts from the weights of another run. To resume, repeat the recipe or give run=RUN
    alone. Ctrl-C saves first. A corpus that is
    not prepared is prepared first. `accelerate launch -m tacoskip.cli train ...` or torchrun trains
    on several GPUs or machines, with the same batches.
    """
    from tacoskip.config import load_arguments

    config = load_arguments([*(settings or []), *([f"train.device={device}"] if device else [])])
    require_run_folder(config.run)
    run = Path(config.run)
    if (run / "ablation.json").is_file() and not (run / "checkpoints").is_dir():
        raise ValueError(f"{config.run} holds an ablation; choose another run=FOLDER")
    from tacoskip import training
    from tacoskip.training.processes import is_main_process, is_single_process
    from tacoskip.training.warm_start import load_start

    training.check_device(config.train)
    if config.from_run and not (run / "checkpoints").is_dir():
        load_start(config)  # refused before any download
    if is_single_process():
        require_corpus(config)
    if not is_main_process():
        training.train(config)
        raise typer.Exit
    with Bar("train") as bar:
        try:
            summary = training.train(config, lambda progress: _show(bar, progress))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise OSError(
                error.errno,
                f"{error.strerror}; make some and run again, its last checkpoint is whole",
                error.filename or config.run,
            ) from error
    figures = ", ".join(f"{name} {value:.3f}" for name, value in summary["best"].items())
    use = {"tts": 'synthesize {} "..."', "asr": "transcribe {} AUDIO"}[config.task]
    best = f"best checkpoint: {figures}" if figures else "no checkpoint was evaluated"
    return Result(summary, [best, f"try it: tacoskip {use.format(summary['run'])}"])


@command
def export(
    run: Run,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder. [default: RUN/onnx]")
    ] = None,
) -> Result:
    """Write a run as ONNX graphs for onnxruntime.

    `synthesize` and `transcribe` accept the folder in place of RUN. Each graph is compared with its
    network on other sizes than it was traced with; the table lists its size and the largest
    difference. Needs the extra `export` (onnx, onnxruntime).
    """
    target = Path(out) if out else Path(run) / "onnx" if Path(run).is_dir() else Path(f"{run}.onnx")
    require_place(target)
    from tacoskip.export import export as export_run

    result = export_run(run, target)
    log(f"wrote {target}")
    rows = [
        [name, f"{one['bytes'] / 1e6:.2f}", f"{one['difference']:.1e}"]
        for name, one in result["graphs"].items()
    ]
    return Result(result, [table(["graph", "MB", "difference"], rows)])


def require_corpus(config: "Config") -> None:
    """Prepare the corpus unless it is there."""
    from tacoskip.data.errors import CorpusError
    from tacoskip.data.prepared import PreparedCorpus, is_prepared

    if is_prepared(config.data.root):
        return
    try:
        PreparedCorpus.of(config)
    except CorpusError:
        report = _prepare_corpus(config)
        left_out = ", ".join(
            f"{n} {why}" + (f" ({KEPT_BY[why]} to keep them)" if why in KEPT_BY else "")
            for why, n in report.reasons().items()
        )
        log(f"corpus: {report.kept} clips kept, left out: {left_out or 'none'}; {report.dir}")


def _prepare_corpus(config: "Config") -> "PrepareReport":
    from tacoskip.data import prepare as preparation

    if config.text.symbols == "phonemes":  # checked before any download
        from tacoskip.text.phonemes import backend

        backend(config.text.voice)
    with Bar("prepare") as bar:
        report = preparation.prepare(config, progress=bar.count)
    for warning in report.warnings:
        log(warning, warning=True)
    return report


def _show(bar: Bar, progress: "Progress") -> None:
    if progress.message:
        log(progress.message, progress.warning)
    scalars = progress.scalars
    figures = [f"{name} {scalars[name]:.3f}" for name in ("loss", "alignment") if name in scalars]
    bar.show(progress.share, ", ".join([f"step {progress.step}", *figures]))
