"""Arguments and options that several commands share."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tacoskip.messages import nearest_path

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer


def _complete_setting(typed: str) -> list[str]:
    """Complete `recipe=NAME` and the keys of settings in a shell."""
    from tacoskip.config import Config
    from tacoskip.config_checks import all_settings
    from tacoskip.recipe_files import known_recipes

    words = ["from=", *(f"recipe={name}" for name in known_recipes())]
    words += [f"{key}=" for key, _, _ in all_settings(Config())]
    return [word for word in words if word.startswith(typed)]


Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="recipe=NAME KEY=VALUE",
        help="The recipe, and settings to change in it (see `tacoskip settings`).",
        show_default=False,
        autocompletion=_complete_setting,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder or a checkpoint file.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Beam = Annotated[
    int,
    typer.Option(
        help="Hypotheses of a beam search; 0: the best token of each frame.", min=0, max=10_000
    ),
]
LanguageModel = Annotated[
    str,
    typer.Option(
        "--lm",
        metavar="FILE[:WEIGHT]",
        help="An ARPA file for the beam search, see `tacoskip ngram`, and its weight. "
        "[default weight: 1]",
        show_default=False,
    ),
]


@dataclass
class Delivery:
    """How a text is spoken."""

    speed: Annotated[float, typer.Option(help="Times as fast, with the same pitch.")] = 1.0
    lexicon: Annotated[
        str,
        typer.Option(metavar="FILE", help="Lines of a word and its respelling or [[phonemes]]."),
    ] = ""
    trim: Annotated[bool, typer.Option("--trim", help="Cut the silence around each sentence.")] = (
        False
    )
    lufs: Annotated[
        float | None, typer.Option(help="Loudness by BS.1770, such as -23.", show_default=False)
    ] = None
    times: Annotated[
        Literal["srt", "vtt", "json"] | None,
        typer.Option(help="Write when each word is spoken beside the audio.", show_default=False),
    ] = None

    def controls(self) -> tuple[float, dict[str, str], bool, float | None]:
        """Return speed, lexicon, trim and loudness, the arguments of `Voice.synthesize`."""
        from tacoskip.text.markup import read_lexicon

        lexicon = read_lexicon(self.lexicon) if self.lexicon else {}
        return self.speed, lexicon, self.trim, self.lufs


def searching_recognizer(run: str, beam: int, lm: str, device: str) -> "SpeechRecognizer":
    """Load a recognizer that decodes by beam search, or by the best token of each frame."""
    from tacoskip.loading import load_recognizer
    from tacoskip.recognition.beam import BeamSettings

    if lm and not beam:
        raise ValueError("expected --beam N with --lm, got --beam 0")
    recognizer = load_recognizer(run, device)
    if beam:
        recognizer.search(BeamSettings(beam, *_file_and_weight(lm)))
    return recognizer


def require_runs(path: str) -> None:
    """Raise ValueError unless `path` is a folder."""
    if Path(path).is_file():
        raise ValueError(f"expected a folder of runs, got the file '{path}'")
    if not Path(path).is_dir():
        hint = nearest_path(path) or "; train first: tacoskip train recipe=..."
        raise ValueError(f"no folder of runs '{path}'{hint}")


def require_run_folder(run: str) -> None:
    """Raise ValueError where a file is in the way of a run folder."""
    path = Path(run)
    existing = next((one for one in (path, *path.parents) if one.exists()), Path())
    if not existing.is_dir():
        raise ValueError(f"expected a folder for run={run}, got the file '{existing}'")


def require_place(folder: Path) -> None:
    """Raise ValueError unless the folder of -o exists or can be created in an existing one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for -o, got the file '{folder}'")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"no folder '{folder.parent}' to make -o {folder} in")


def _file_and_weight(lm: str) -> tuple[str, float]:
    """Read FILE or FILE:WEIGHT."""
    file, colon, weight = lm.rpartition(":")
    try:
        return (file, float(weight)) if colon and isfinite(float(weight)) else (lm, 1.0)
    except ValueError:
        return lm, 1.0
