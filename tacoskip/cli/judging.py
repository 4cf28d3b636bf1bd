"""`evaluate`, `ablate` and `compare`: how good a run is, alone and beside others."""

from pathlib import Path
from typing import Annotated

import typer

from tacoskip.cli.arguments import (
    Beam,
    Json,
    LanguageModel,
    LanguageModelWeight,
    Run,
    WordScore,
    require_place,
    require_runs,
    searching_recognizer,
)
from tacoskip.cli.console import Bar, emit_json, emit_table, guarded, say, show_table, working
from tacoskip.cli.training import require_corpus


@guarded
def judge(
    run: Run,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int, typer.Option(help="At most so many clips (0: all).", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the speech and the intervals.", min=0)] = 0,
    recognizer: Annotated[
        str, typer.Option("--judge", metavar="ASR_RUN", help="A recognizer that hears a voice.")
    ] = "",
    join: Annotated[
        str, typer.Option(metavar="LOW-HIGH", help="A recognizer hears strings of so many clips.")
    ] = "",
    beam: Beam = 0,
    lm: LanguageModel = "",
    lm_weight: LanguageModelWeight = 1.0,
    word_score: WordScore = 0.0,
    json: Json = False,
) -> None:
    """Judge a run on clips of its corpus; the figures go into RUN/metrics.json as well.

    A voice speaks the texts and is set beside the recordings; with --judge a recognizer writes down
    both. A recognizer writes down the recordings.
    """
    from tacoskip.messages import nearest

    splits = ("train", "validation", "test")
    if split not in splits:
        raise ValueError(f"unknown split '{split}'{nearest(split, splits)} ({', '.join(splits)})")
    with working():
        from tacoskip.evaluation import recognizers as evaluate_recognizer
        from tacoskip.evaluation import voices as evaluate
        from tacoskip.run_folder import task_of

        hears = task_of(run) == "asr"
        if hears and recognizer:
            raise ValueError("expected --judge with a voice (task=tts), got a recognizer")
        if not hears and (join or beam or lm):
            raise ValueError("expected --join, --beam and --lm with a recognizer, got a voice")
        with Bar("evaluate") as bar:
            if hears:
                figures = evaluate_recognizer.evaluate(
                    searching_recognizer(run, beam, lm, lm_weight, word_score),
                    run,
                    split=split,
                    limit=limit,
                    seed=seed,
                    join=_low_high(join),
                    progress=bar.show,
                )
                rows = evaluate_recognizer.table(figures)
            else:
                figures = evaluate.evaluate(
                    run, split=split, limit=limit, seed=seed, judge=recognizer, progress=bar.show
                )
                rows = evaluate.table(figures)
    if json:
        emit_json(figures)
        return
    for trouble in figures.get("troubles", []):
        say(f"warning: {trouble['id']}: {'; '.join(trouble['warnings'])}")
    emit_table(["figure", "mean", "95 % interval", "clips"], rows)
    if hears:
        emit_table(["speaker", "cer", "wer", "words"], evaluate_recognizer.speaker_rows(figures))
        emit_table(["worst", "said", "heard"], evaluate_recognizer.worst_rows(figures))


@guarded
def run_ablation(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="recipe=NAME blocks=A,B seeds=3 KEY=VALUE",
            help="What to vary, and what to change in the recipe for all runs.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train every variant with every seed, then compare. Run again = go on; Ctrl-C saves first.

    What varies: blocks=A,B or all, skips=, topologies=, depths=, without=bank,stack,gru,residual
    (parts of CBHG taken out of the baseline). seeds=3: runs of each. baseline=highway: what the
    others are held to. aa=highway: blocks that run again with other seeds, for the noise floor
    (none: no such runs). match=params: stacks as wide as makes the networks equal in size (or macs,
    or none). launcher=local or ray. jobs=N: runs at once. run=FOLDER: where they go.

    All variants of a seed see the same batches and start with equal weights outside the block. A
    run that fails is recorded and the others go on.
    """
    from tacoskip.ablation.grid import read_request

    with working():
        request = read_request(settings or [])
        from tacoskip.ablation.ablate import ablate, settle
        from tacoskip.ablation.launch import check_launcher

        check_launcher(request.launcher)
        base = settle(request)
        require_place(base.run)
        require_corpus(base)
        with Bar("ablate") as bar:
            folder = ablate(request, base, bar.show, say)
    _compare(folder, None, None, json)


@guarded
def compare_runs(
    runs: Annotated[Path, typer.Argument(metavar="RUNS_DIR", help="A folder of runs.")],
    baseline: Annotated[str, typer.Option(help="Variant that the others are held to.")] = "",
    figure: Annotated[str, typer.Option(help="The figure to look at first.")] = "",
    json: Json = False,
) -> None:
    """Compare runs: means and differences with intervals, the noise floor, a verdict in words.

    Writes RUNS_DIR/report.html, and RUNS_DIR/board for TensorBoard's HParams and scalars.
    """
    require_runs(str(runs))
    _compare(runs, baseline or None, figure or None, json)


def _low_high(text: str) -> tuple[int, int]:
    """Read "3-7", or "3" for "3-3"; "" is one clip at a time."""
    low, dash, high = text.partition("-")
    try:
        found = (int(low), int(high) if dash else int(low)) if text else (1, 1)
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise ValueError(f"expected --join LOW-HIGH, such as 3-7, got '{text}'")
    return found


def _compare(runs: Path, baseline: str | None, figure: str | None, json: bool) -> None:
    """Compare the runs of a folder, write report and board, show the table."""
    with working():
        from tacoskip.ablation.board import write_board
        from tacoskip.ablation.compare import compare
        from tacoskip.ablation.report import write_report
        from tacoskip.ablation.table import table

        comparison = compare(runs, baseline, figure)
        report = write_report(comparison, runs / "report.html")
        write_board(comparison, runs / "board")
    if json:
        emit_json(comparison.to_json())
        return
    for warning in comparison.warnings:
        say(f"warning: {warning}")
    for line in comparison.left_out:
        say(f"left out: {line}")
    show_table(table(comparison))
    say(f"wrote {report}")
