"""The commands. Each is a page of its own help; the work is done in the modules they import.

Imports of anything heavy stay inside the commands: `tacoskip --help` has no use for torch.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacoskip.console import WRONG, Bar, emit_json, emit_table, guarded, say, show_table, working

if TYPE_CHECKING:
    from tacoskip.config import Config
    from tacoskip.data.prepare import PrepareReport
    from tacoskip.listening.listener import Listener
    from tacoskip.training import Progress

app = typer.Typer(
    help="tacoskip: train voices and compare the skip connections inside them.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich takes longer to import than --help may take to answer
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="recipe=NAME KEY=VALUE",
        help="The recipe and what to change in it: recipe=ljspeech train.max_steps=500",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder or a checkpoint file.")]
Beam = Annotated[
    int, typer.Option(help="Hypotheses of a beam search (0: the best unit of each frame).", min=0)
]
LanguageModel = Annotated[str, typer.Option("--lm", help="An ARPA file, see `tacoskip ngram`.")]
LanguageModelWeight = Annotated[float, typer.Option(help="Weight of the language model.")]
WordScore = Annotated[float, typer.Option(help="Added for each word of a model of words.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def main() -> None:
    """Run the command line."""
    app()


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"tacoskip {version('tacoskip')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """The options before a command."""


@app.command("prepare", short_help="Fetch, check and normalise a corpus.")
@guarded
def prepare_corpus(settings: Settings = None, json: Json = False) -> None:
    """Fetch a corpus if it is absent, check every clip, normalise, write the manifest.

    Run again: only what is missing is done. Clips that are left out are counted by reason, and
    named one by one in the report.
    """
    from tacoskip.config import load_arguments

    with working():
        config = load_arguments(settings or [])
        report = _prepare(config)
    result = _preparation(report)
    if json:
        emit_json(result)
        return
    reasons = [[reason, str(count)] for reason, count in result["dropped"].items()]
    emit_table(["clips", "count"], [["kept", str(report.kept)], *reasons])
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    print(f"{_duration(report.seconds)} by {len(report.speakers)} speakers; {splits}")
    print(f"report: {result['report']}")


@app.command(short_help="Train a voice or a listener; run again = resume.")
@guarded
def train(settings: Settings = None, json: Json = False) -> None:
    """Train a voice or, with a recipe of task=asr, a listener.

    Run again = resume; Ctrl-C saves first.

    A corpus that is not prepared yet is prepared first.
    """
    from tacoskip.config import load_arguments

    with working():
        config = load_arguments(settings or [])
        _require_corpus(config)
        from tacoskip import training

        with Bar("train") as bar:
            summary = training.train(config, lambda progress: _show(bar, progress))
    if json:
        emit_json(summary)
        return
    figures = ", ".join(f"{name} {value:.3f}" for name, value in summary["best"].items())
    print(f"best checkpoint: {figures}" if figures else "no checkpoint was judged")
    use = {"tts": 'synthesize {} "..."', "asr": "transcribe {} AUDIO"}[config.task]
    print(f"try it: tacoskip {use.format(summary['run'])}")


@app.command()
@guarded
def synthesize(
    run: Run,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; - reads standard input."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read texts from a file, one a line.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="FILE.wav (or .flac), a folder, or - for a wav down a pipe. "
            "[default: the first of speech.wav, speech-2.wav, ... that is free]",
            show_default=False,
        ),
    ] = None,
    speaker: Annotated[
        str | None, typer.Option("--speaker", "-s", help="Which voice, where there are several.")
    ] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw mel and alignment into a png beside the audio.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same text and seed, same bytes.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Speak TEXT, the lines of a file, or standard input.

    Several lines go into one file one after another, or, where -o names a folder, into
    FOLDER/0001.wav and so on. A file that -o names is replaced, and that is said. A sentence that
    did not end by itself or lost its alignment is named in a warning.
    """
    from tacoskip.speak import choose_out, read_texts, speak, stream

    out = choose_out(out)
    if out == "-" and (plot or json):
        raise ValueError("expected -o FILE with --plot or --json, got -o -")
    texts = read_texts(text, file)
    sink = sys.stdout.buffer
    with working():
        from tacoskip import inference

        voice = inference.load_voice(run)
        if out == "-":
            stream(voice, texts, speaker, seed, sink)
            return
        result = speak(voice, texts, out, speaker, plot, seed)
    if json:
        emit_json(result)


@app.command(short_help="Write down what is said in audio files.")
@guarded
def transcribe(
    run: Run,
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO...", help="Files of any length.")],
    format: Annotated[str, typer.Option(help="text, json, srt or vtt.")] = "text",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder: one file for each AUDIO.")
    ] = None,
    beam: Beam = 0,
    lm: LanguageModel = "",
    lm_weight: LanguageModelWeight = 1.0,
    word_score: WordScore = 0.0,
) -> None:
    """Write down what is said in files that libsndfile reads, of any sample rate and length.

    A file that cannot be read is named in one line, the others are still done, and the exit code
    is 2.
    """
    from tacoskip.hear import TRANSCRIPT_FORMATS, check_request
    from tacoskip.hear import transcribe as hear

    check_request(format, TRANSCRIPT_FORMATS, out, len(audio))
    with working():
        listener = _listener(run, beam, lm, lm_weight, word_score)
        text, errors = hear(listener, audio, format, out)
    if text or (out is None and not errors):
        print(text)
    for error in errors:
        say(f"error: {error}")
    if errors:
        raise typer.Exit(WRONG)


@app.command(short_help="Say when each word of a known text is spoken.")
@guarded
def align(
    run: Run,
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="A recording.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is said in it.")],
    format: Annotated[str, typer.Option(help="json or textgrid (Praat).")] = "json",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder to write AUDIO's file into.")
    ] = None,
) -> None:
    """Say when each word and character of TEXT is spoken in AUDIO (forced alignment)."""
    from tacoskip.hear import ALIGNMENT_FORMATS, check_request, render, write

    check_request(format, ALIGNMENT_FORMATS, out)
    with working():
        from tacoskip.inference import load_listener

        transcript = load_listener(run).align(audio, text)
        if out is not None:
            write([transcript], format, Path(out))
    if out is None:
        print(render(transcript, format))


@app.command(short_help="Train an n-gram language model from text.")
@guarded
def ngram(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Files, a sentence a line.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The ARPA file to write.")] = "lm.arpa",
    order: Annotated[int, typer.Option(help="Words (or characters) it looks at.", min=2)] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Model characters, so that any word can be heard.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an n-gram model (modified Kneser-Ney) for `transcribe --beam N --lm FILE`.

    Texts are read as they are spoken: numbers as words, no punctuation.
    """
    from tacoskip.listening.ngram import train_file

    with working():
        result = train_file(texts, out, order, characters)
    if json:
        emit_json(result)
        return
    grams = ", ".join(f"{count:,} of {n}" for n, count in enumerate(result["ngrams"], 1))
    say(f"wrote {out}: {result['sentences']:,} sentences; n-grams: {grams}")


@app.command("evaluate", short_help="Judge a run on clips of its corpus.")
@guarded
def judge(
    run: Run,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int, typer.Option(help="At most so many clips (0: all).", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the speech and the intervals.", min=0)] = 0,
    listener: Annotated[
        str, typer.Option("--judge", metavar="ASR_RUN", help="A listener that hears a voice.")
    ] = "",
    join: Annotated[
        str, typer.Option(metavar="LOW-HIGH", help="A listener hears strings of so many clips.")
    ] = "",
    beam: Beam = 0,
    lm: LanguageModel = "",
    lm_weight: LanguageModelWeight = 1.0,
    word_score: WordScore = 0.0,
    json: Json = False,
) -> None:
    """Judge a run on clips of its corpus; the figures go into RUN/metrics.json as well.

    A voice speaks the texts and is set beside the recordings; with --judge a listener writes down
    both. A listener writes down the recordings.
    """
    from tacoskip.config_checks import nearest

    splits = ("train", "validation", "test")
    if split not in splits:
        raise ValueError(f"unknown split '{split}'{nearest(split, splits)} ({', '.join(splits)})")
    with working():
        from tacoskip import evaluate, evaluate_listener
        from tacoskip.run_folder import task_of

        hears = task_of(run) == "asr"
        if hears and listener:
            raise ValueError("expected --judge with a voice (task=tts), got a listener")
        if not hears and (join or beam or lm):
            raise ValueError("expected --join, --beam and --lm with a listener, got a voice")
        with Bar("evaluate") as bar:
            if hears:
                figures = evaluate_listener.evaluate(
                    _listener(run, beam, lm, lm_weight, word_score),
                    run,
                    split=split,
                    limit=limit,
                    seed=seed,
                    join=_low_high(join),
                    progress=bar.show,
                )
                rows = evaluate_listener.table(figures)
            else:
                figures = evaluate.evaluate(
                    run, split=split, limit=limit, seed=seed, judge=listener, progress=bar.show
                )
                rows = evaluate.table(figures)
    if json:
        emit_json(figures)
        return
    for trouble in figures.get("troubles", []):
        say(f"warning: {trouble['id']}: {'; '.join(trouble['warnings'])}")
    emit_table(["figure", "mean", "95 % interval", "clips"], rows)
    if hears:
        emit_table(["speaker", "cer", "wer", "words"], evaluate_listener.speaker_rows(figures))
        emit_table(["worst", "said", "heard"], evaluate_listener.worst_rows(figures))


@app.command("ablate", short_help="Train variants of a recipe side by side.")
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

        base = settle(request)
        _require_corpus(base)
        with Bar("ablate") as bar:
            folder = ablate(request, base, bar.show, say)
    _compare(folder, None, None, json)


@app.command("compare", short_help="Compare the runs of a folder, block by block.")
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
    if not runs.is_dir():
        raise ValueError(f"no folder of runs '{runs}'{_nearest_folder(str(runs))}")
    _compare(runs, baseline or None, figure or None, json)


@app.command()
@guarded
def board(
    runs: Annotated[str, typer.Argument(metavar="[RUNS_DIR]", help="A folder of runs.")] = "runs",
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.")] = 6006,
) -> None:
    """Show TensorBoard on the runs until Ctrl-C."""
    if not Path(runs).is_dir():
        raise ValueError(f"no folder of runs '{runs}'{_nearest_folder(runs)}")
    with working():
        from tensorboard import program

        server = program.TensorBoard()
        server.configure(logdir=runs, host=host, port=port)
        try:
            url = server.launch()
        except program.TensorBoardServerException as error:
            raise RuntimeError(f"{error.msg} (choose another --port)") from None
    print(f"TensorBoard on {runs}: {url} (Ctrl-C ends it)", flush=True)
    _wait_for_interrupt()


@app.command(short_help="List the families of skip connections.")
@guarded
def blocks(
    channels: Annotated[int, typer.Option(help="Width of the stack.", min=1)] = 128,
    depth: Annotated[int, typer.Option(help="Units in the stack.", min=1)] = 4,
    json: Json = False,
) -> None:
    """List the families of skip connections: formula, source, parameters, what a frame costs."""
    with working():
        from tacoskip.blocks import BLOCKS, build_block, cost

        families: dict[str, dict[str, Any]] = {}
        for name, family in BLOCKS.items():
            stack = build_block(name, channels, depth)
            families[name] = {
                "formula": family.formula,
                "source": family.source,
                "transform": family.transform,
                "skip": family.skip,
                "topology": family.topology,
                "parameters": cost.parameters(stack),
                "macs_per_frame": round(cost.macs_per_frame(stack, channels)),
                "receptive_field": cost.receptive_field(stack, channels),
                "latency_ms": round(cost.latency_ms(stack, channels), 2),
            }
    if json:
        emit_json({"channels": channels, "depth": depth, "blocks": families})
        return
    columns = ["block", "formula", "parameters", "MACs/frame", "frames seen", "ms", "source"]
    rows = [
        [
            *(name, f["formula"], f"{f['parameters']:,}", f"{f['macs_per_frame']:,}"),
            *(str(f["receptive_field"] or "all"), f"{f['latency_ms']:.1f}", f["source"]),
        ]
        for name, f in families.items()
    ]
    emit_table(columns, rows, title=f"{depth} units, {channels} channels")


@app.command()
@guarded
def doctor(json: Json = False) -> None:
    """Say what is installed, and what will and will not work here."""
    from tacoskip.doctor import examine

    with working():
        findings = examine()
    if json:
        checks = [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in findings]
        healthy = all(f.ok is not False for f in findings)
        emit_json({"healthy": healthy, "checks": checks})
        return
    words = {True: "ok", None: "note", False: "BROKEN"}
    emit_table(["", "", ""], [[words[f.ok], f.name, f.detail] for f in findings])


def _listener(run: str, beam: int, lm: str, lm_weight: float, word_score: float) -> "Listener":
    from tacoskip.inference import load_listener
    from tacoskip.listening.beam import BeamSettings

    if lm and not beam:
        raise ValueError("expected --beam N with --lm, got --beam 0")
    listener = load_listener(run)
    if beam:
        listener.search(BeamSettings(beam, lm, lm_weight, word_score))
    return listener


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


def _require_corpus(config: "Config") -> None:
    """Prepare the corpus unless it is there."""
    from tacoskip.data.corpus import Corpus
    from tacoskip.data.errors import CorpusError

    try:
        Corpus.of(config.data, config.audio, config.text)
    except CorpusError:
        report = _prepare(config)
        left_out = f"{len(report.dropped)} left out" if report.dropped else "none left out"
        say(f"corpus: {report.kept} clips kept, {left_out}, see {report.dir}/report.json")


def _prepare(config: "Config") -> "PrepareReport":
    from tacoskip.data.prepare import prepare

    root = config.data.root
    if root and not Path(root).is_dir():
        raise ValueError(f"no folder '{root}' (data.root){_nearest_folder(root)}")
    with Bar("prepare") as bar:
        report = prepare(
            config.data,
            config.audio,
            config.text,
            progress=lambda done, total, note: bar.show(done / total if total else None, note),
        )
    for warning in report.warnings:
        say(f"warning: {warning}")
    return report


def _preparation(report: "PrepareReport") -> dict[str, Any]:
    from collections import Counter

    reasons = Counter(clip.reason for clip in report.dropped)
    return {
        "dir": str(report.dir),
        "report": str(report.dir / "report.json"),
        "kept": report.kept,
        "dropped": dict(reasons.most_common()),
        "seconds": report.seconds,
        "speakers": report.speakers,
        "splits": report.splits,
        "warnings": report.warnings,
    }


def _show(bar: Bar, progress: "Progress") -> None:
    if progress.message:
        say(f"warning: {progress.message}" if progress.warning else progress.message)
    figures = [
        f"{name} {progress.scalars[name]:.3f}"
        for name in ("loss", "alignment")
        if name in progress.scalars
    ]
    bar.show(progress.share, ", ".join([f"step {progress.step}", *figures]))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def _nearest_folder(path: str) -> str:
    from tacoskip.config_checks import nearest

    parent = Path(path).parent
    if not parent.is_dir():
        return ""
    return nearest(path, [str(other) for other in parent.iterdir() if other.is_dir()])


def _wait_for_interrupt() -> None:
    from threading import Event

    try:
        Event().wait()
    except KeyboardInterrupt:
        say("ended")
