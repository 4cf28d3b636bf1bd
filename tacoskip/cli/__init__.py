"""The command line: which commands there are, in the order of `tacoskip --help`.

Imports of anything heavy stay inside the commands: `tacoskip --help` needs no torch.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tacoskip.cli import doctor, evaluation, reference, synthesis, training, transcripts
from tacoskip.cli.console import FAILED, WRONG, home_folder, open_standard_streams, print_error

# In the order of `tacoskip --help`, whose lines are the first ones of the docstrings.
COMMANDS: dict[str, Callable[..., None]] = {
    name: getattr(module, name)
    for module, names in (
        (training, "prepare train"),
        (synthesis, "synthesize"),
        (transcripts, "transcribe align"),
        (training, "export"),
        (transcripts, "ngram"),
        (evaluation, "evaluate ablate compare"),
        (reference, "board blocks recipes settings config"),
        (doctor, "doctor"),
    )
    for name in names.split()
}

EXAMPLES = """
tacoskip prepare recipe=fsdd
tacoskip prepare recipe=mine data.root=~/recordings
tacoskip train recipe=fsdd block=residual train.max_minutes=10
tacoskip train run=runs/fsdd
tacoskip synthesize runs/demo "Six ducks slept." -o ducks.wav --plot
tacoskip synthesize runs/demo --file story.txt -o story.wav --speed 1.2 --times srt
tacoskip transcribe runs/demo_asr ducks.wav
tacoskip transcribe runs/demo_asr *.wav --format srt -o subtitles
tacoskip align runs/demo_asr ducks.wav "six ducks slept"
tacoskip align runs/demo_asr ducks.wav "six ducks slept" --format textgrid -o aligned
tacoskip export runs/demo
tacoskip export runs/demo_asr -o recognizer
tacoskip ngram book.txt -o words.arpa
tacoskip ngram book.txt --characters --order 6 -o letters.arpa
tacoskip evaluate runs/fsdd --judge runs/fsdd_asr
tacoskip evaluate runs/fsdd_asr --split validation --limit 100
tacoskip ablate recipe=fsdd blocks=plain,residual,dense seeds=3
tacoskip ablate recipe=fsdd blocks=all match=params launcher=ray run=runs/all
tacoskip compare runs/fsdd-ablation
tacoskip compare runs/fsdd-ablation --figure mcd_db --json
tacoskip board
tacoskip board runs/fsdd-ablation --port 0
tacoskip blocks
tacoskip blocks highway --channels 256
tacoskip recipes
tacoskip recipes --json
tacoskip settings
tacoskip settings learning
tacoskip config recipe=fsdd
tacoskip config recipe=fsdd block=dense train.max_steps=500
tacoskip doctor
tacoskip doctor --json
""".splitlines()

app = typer.Typer(
    help="tacoskip: train voices and recognizers, and compare the skip connections inside them.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich takes longer than --help may take
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a request it cannot parse gets one line and exit code 2."""
    open_standard_streams()
    try:
        with home_folder():
            sys.exit(app(standalone_mode=False))
    except OSError as error:  # of standard output, while help is printed
        print_error(f"standard output: {error.strerror}")
        sys.exit(FAILED)
    except Exception as error:
        # Typer's own, of whichever click it brings: a command, an option, an argument.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(WRONG)
        context = getattr(error, "ctx", None)
        page = f" (see: {context.command_path} --help)" if context else ""
        print_error(f"{error.format_message().rstrip('.')}{page}")
        sys.exit(WRONG)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import distributions

        version = next((one.version for one in distributions(name="tacoskip")), "not installed")
        print(f"tacoskip {version}")
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


for name, command in COMMANDS.items():
    examples = [f"  {line}" for line in EXAMPLES if line.split()[1:2] == [name]]
    app.command(name, epilog="\n".join(["\b\nExamples:", *examples]))(command)
