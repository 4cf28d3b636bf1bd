"""The command line: which commands there are, in the order of `tacoskip --help`.

Each stands in `commands/` and is a page of its own help. Imports of anything heavy stay inside the
commands: `tacoskip --help` has no use for torch.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tacoskip.cli import judging, looking, speech, training
from tacoskip.cli.console import WRONG, say

# Its name, what it runs, its line in `tacoskip --help` (None: the first of its own help).
COMMANDS: tuple[tuple[str, Callable[..., None], str | None], ...] = (
    ("prepare", training.prepare_corpus, "Fetch, check and normalise a corpus."),
    ("train", training.train, "Train a voice or a recognizer; run again = resume."),
    ("synthesize", speech.synthesize, None),
    ("transcribe", speech.transcribe, "Write down what is said in audio files."),
    ("align", speech.align, "Say when each word of a known text is spoken."),
    ("export", speech.export, "Write a run as ONNX graphs that onnxruntime runs."),
    ("ngram", speech.ngram, "Train an n-gram language model from text."),
    ("evaluate", judging.judge, "Judge a run on clips of its corpus."),
    ("ablate", judging.run_ablation, "Train variants of a recipe side by side."),
    ("compare", judging.compare_runs, "Compare the runs of a folder, block by block."),
    ("board", looking.board, None),
    ("blocks", looking.blocks, "List the families of skip connections."),
    ("doctor", looking.doctor, None),
)

app = typer.Typer(
    help="tacoskip: train voices and compare the skip connections inside them.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich takes longer to import than --help may take to answer
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; what it cannot make out gets one line and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        # Typer's own, of whichever click it brings: a command, an option, an argument.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(WRONG)
        where = getattr(error, "ctx", None)
        page = f" (see: {where.command_path} --help)" if where else ""
        say(f"error: {error.format_message().rstrip('.')}{page}")
        sys.exit(WRONG)


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


for name, command, line in COMMANDS:
    app.command(name, short_help=line)(command)
