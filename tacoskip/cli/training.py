"""`prepare` and `train`: from a recipe to a run."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tacoskip.cli.arguments import Json, Settings, nearest_path, require_run_folder
from tacoskip.cli.console import Bar, emit_json, emit_table, guarded, log, working
from tacoskip.messages import human_bytes, human_duration

if TYPE_CHECKING:
    from tacoskip.config import Config
    from tacoskip.data.prepare import PrepareReport
    from tacoskip.training import Progress

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEPT_BY = {"too_long": "raise data.max_seconds"}


@guarded
def prepare(settings: Settings = None, json: Json = False) -> None:
    """Fetch, check and normalise a corpus.

    Fetches it if it is absent, checks every clip, and writes audio, manifest and report.
    Run again to do what is missing. Clips that are left out are counted by reason, and named one
    by one in the report.
    """
    from tacoskip.config import load_arguments

    with working():
        config = load_arguments(settings or [])
        report = _prepare_corpus(config)
        shards = _write_shards(config, report) if config.data.shards else {}
    result = _preparation(report) | ({"shards": shards} if shards else {})
    if json:
        emit_json(result)
        return
    rows = [[why, str(n), KEPT_BY.get(why, "")] for why, n in result["dropped"].items()]
    emit_table(["clips", "count", "to keep them"], [["kept", str(report.kept), ""], *rows])
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    count = len(report.speakers)
    print(f"{human_duration(report.seconds)} by {count} speaker{'s' * (count != 1)}; {splits}")
    print(f"report: {result['report']}")
    if shards:
        count, size = shards["shards"], human_bytes(shards["bytes"])
        print(f"shards: {count} of {size} together, {shards['dir']}")


@guarded
def train(
    settings: Settings = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where to train; the same as train.device=.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Train a voice or a recognizer; run again to resume.

    from=RUN starts from the weights of another run. To resume, repeat the recipe or give run=RUN
    alone. Ctrl-C saves first. A corpus that is
    not prepared is prepared first. `accelerate launch -m tacoskip.cli train ...` or torchrun trains
    on several GPUs or machines, with the same batches.
    """
    from tacoskip.config import load_arguments

    with working():
        config = load_arguments(
            [*(settings or []), *([f"train.device={device}"] if device else [])]
        )
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
            return
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
    if json:
        emit_json(summary)
        return
    figures = ", ".join(f"{name} {value:.3f}" for name, value in summary["best"].items())
    print(f"best checkpoint: {figures}" if figures else "no checkpoint was evaluated")
    use = {"tts": 'synthesize {} "..."', "asr": "transcribe {} AUDIO"}[config.task]
    print(f"try it: tacoskip {use.format(summary['run'])}")


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

    root = config.data.root
    if config.text.symbols == "phonemes":  # checked before any download
        from tacoskip.text.phonemes import backend

        backend(config.text.voice)
    if Path(root).is_file():
        raise ValueError(f"expected a folder in data.root, got the file '{root}'")
    if root and "://" not in root and not Path(root).is_dir():
        raise ValueError(f"no folder '{root}' (data.root){nearest_path(root)}")
    with Bar("prepare") as bar:
        report = preparation.prepare(
            config,
            progress=lambda done, total, note: bar.show(done / total if total else None, note),
        )
    for warning in report.warnings:
        log(warning, warning=True)
    return report


def _write_shards(config: "Config", report: "PrepareReport") -> dict[str, Any]:
    from tacoskip.data.shards import write_shards

    folder = config.data.shards
    with Bar("shards") as bar:
        tars = write_shards(
            report.dir, Path(folder), lambda done, total, note: bar.show(done / total, note)
        )
    size = sum(tar.stat().st_size for tar in tars)
    return {"dir": folder, "shards": len(tars), "bytes": size}


def _preparation(report: "PrepareReport") -> dict[str, Any]:
    return {
        "dir": str(report.dir),
        "report": str(report.dir / "report.json"),
        "kept": report.kept,
        "dropped": report.reasons(),
        "seconds": report.seconds,
        "speakers": report.speakers,
        "splits": report.splits,
        "warnings": report.warnings,
    }


def _show(bar: Bar, progress: "Progress") -> None:
    if progress.message:
        log(progress.message, progress.warning)
    figures = [
        f"{name} {progress.scalars[name]:.3f}"
        for name in ("loss", "alignment")
        if name in progress.scalars
    ]
    bar.show(progress.share, ", ".join([f"step {progress.step}", *figures]))
