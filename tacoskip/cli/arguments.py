"""Arguments and options that several commands take, and what is made of them."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer

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


def searching_recognizer(
    run: str, beam: int, lm: str, lm_weight: float, word_score: float
) -> "SpeechRecognizer":
    """Load a recognizer; with a beam it searches, else it takes the best unit of each frame."""
    from tacoskip.load import load_recognizer
    from tacoskip.recognition.beam import BeamSettings

    if lm and not beam:
        raise ValueError("expected --beam N with --lm, got --beam 0")
    recognizer = load_recognizer(run)
    if beam:
        recognizer.search(BeamSettings(beam, lm, lm_weight, word_score))
    return recognizer


def require_runs(path: str) -> None:
    """Raise ValueError where a folder of runs should be and is not."""
    if Path(path).is_file():
        raise ValueError(f"expected a folder of runs, got the file '{path}'")
    if not Path(path).is_dir():
        hint = nearest_folder(path) or "; train first: tacoskip train recipe=..."
        raise ValueError(f"no folder of runs '{path}'{hint}")


def require_place(run: str) -> None:
    """Raise ValueError where a run folder cannot be made, since a file stands in its way."""
    path = Path(run)
    there = next((place for place in (path, *path.parents) if place.exists()), Path())
    if not there.is_dir():
        raise ValueError(f"expected a folder for run={run}, got the file '{there}'")


def nearest_folder(path: str) -> str:
    """Return "; did you mean 'X'?" for a folder that is not there, or nothing."""
    parent = Path(path).parent
    if not parent.is_dir():
        return ""
    names = [other.name for other in parent.iterdir() if other.is_dir()]
    near = get_close_matches(Path(path).name, names, n=1)
    return f"; did you mean '{parent / near[0]}'?" if near else ""
