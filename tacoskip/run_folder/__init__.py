"""A run folder: what stands where, and checkpoints that load without executing anything.

    config.yaml         the resolved settings
    environment.json    versions, commit, seed, parameter count
    checkpoints/        step-00001000.pt ..., best.pt
    events.*            TensorBoard
    samples/            what was synthesised while training
    metrics.json        what `evaluate` measured
    probes.json         what the probes and the analysis of the finished network measured

A checkpoint alone is enough to use the model elsewhere: settings, symbols and speakers travel with
the weights.
"""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from tacoskip.config import Config, cbhgs_of, from_dict
from tacoskip.files import open_regular, whole_file
from tacoskip.messages import nearest_name, without_secrets
from tacoskip.models.initial import outline
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron

EXPORT = "export.json"  # stands in a folder that `tacoskip export` wrote
NAMED = 5  # runs that an error names
LARGEST = 1 << 36  # bytes of a checkpoint
END = Struct("<4s16xH")  # record at the end of a zip: signature, bytes of a comment
MOST_FRAMES = 1000  # of a symbol


class RunError(ValueError):
    """A run folder or checkpoint that cannot be used: one line that says what to do."""


@dataclass
class Checkpoint:
    """What a checkpoint holds. `weights` are what to use (averaged), `training` what a resume
    needs, `vocabulary` a recognizer's subword model (`tacoskip.text.subwords`), "" for characters.
    seen_symbols: ids of a voice's symbols that occur in its training texts.
    """

    config: dict[str, Any]
    speakers: list[str]
    n_symbols: int
    frames_per_symbol: float
    step: int
    weights: dict[str, Tensor]
    training: dict[str, Any]
    vocabulary: str = ""
    seen_symbols: list[int] = field(default_factory=list)


def build_tacotron(config: Config, n_symbols: int, n_speakers: int) -> Tacotron:
    """Build the voice a config describes, freshly initialised."""
    audio = config.audio
    sizes = (n_symbols, audio.n_mels, audio.n_bins, n_speakers)
    return Tacotron(*sizes, config.tts, *cbhgs_of(config))


def build_recognizer(config: Config, n_tokens: int) -> Recognizer:
    """Build the recognizer a config describes, freshly initialised."""
    audio = config.audio
    frame_rate = audio.sample_rate / audio.hop_length
    return Recognizer(audio.n_mels, n_tokens, frame_rate, config.asr, *cbhgs_of(config))


def build_network(config: Config, n_symbols: int, n_speakers: int) -> Tacotron | Recognizer:
    """Build the network of a config's task, freshly initialised."""
    if config.task == "asr":
        return build_recognizer(config, n_symbols)
    return build_tacotron(config, n_symbols, n_speakers)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically: a crash leaves the old file or the new one.

    Raises OSError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        try:
            with part.open("wb") as file:
                torch.save(vars(checkpoint), file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # what torch makes of an OSError
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint: tensors and plain values only, nothing in it is ever executed.

    Raises RunError for a file that is damaged, be it by one bit, is something else, or carries
    code.
    """
    damaged = RunError(f"{path}: damaged or not a tacoskip checkpoint")
    if not _is_whole(path):
        raise damaged
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to who wrote the file; it is refused
            values = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a foreign file can make the unpickler fail in any way
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise RunError(
                f"{path}: refused, the file wants to run code and is no tacoskip checkpoint"
            ) from None
        raise damaged from None
    try:
        checkpoint = Checkpoint(**values)
    except TypeError:
        if isinstance(values, dict) and {"config", "weights"} <= values.keys():
            raise RunError(f"{path}: made by another version of tacoskip") from None
        raise damaged from None
    fit = (FIELDS[name](value) for name, value in vars(checkpoint).items())
    if not all(fit) or not checkpoint.speakers:
        raise damaged
    return checkpoint


def _is_whole(path: Path) -> bool:
    """Whether a file is a zip as torch writes it: nothing before it, nothing compressed, no name
    twice, every checksum right.

    torch itself reads tensors of which bits have changed, unpacks what is compressed to any size,
    and reads another part of a file that is a pickle and a zip at once.
    """
    try:
        with open_regular(path, LARGEST) as raw, zipfile.ZipFile(raw) as file:
            members = file.infolist()
            first = min(members, key=lambda member: member.header_offset)
            unique = len({member.filename for member in members}) == len(members)
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            held = sum(member.file_size for member in members) <= path.stat().st_size
            raw.seek(-END.size, os.SEEK_END)  # its end is that of the file
            signature, comment = END.unpack(raw.read())
            alone = first.header_offset == 0 and signature == b"PK\5\6" and not comment
            return alone and unique and stored and held and file.testzip() is None
    except Exception:  # zipfile has many words for what is no zip
        return False


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _is_weights(value: Any) -> bool:
    """Whether a value holds tensors by name, none of which is larger than the file it came from."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(one, Tensor) and one.is_contiguous()
        for name, one in value.items()
    )


# What each field of a checkpoint or of export.json may be; a bool is no int.
FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("config", "training", "graphs"), lambda value: isinstance(value, dict)),
    **dict.fromkeys(("speakers", "symbols"), _list_of(str)),
    **dict.fromkeys(("n_symbols", "step", "format"), lambda value: type(value) is int),
    "weights": _is_weights,
    "seen_symbols": _list_of(int),
    "frames_per_symbol": lambda value: type(value) in (int, float) and 0 <= value <= MOST_FRAMES,
    "reduction": lambda value: type(value) is int and 1 <= value <= 100,
    "vocabulary": lambda value: isinstance(value, str),
}


def open_run(run: str | Path, device: str | torch.device = "cpu") -> tuple[Path, Checkpoint]:
    """Load the checkpoint that `find_checkpoint` names; where training has deleted it meanwhile,
    the one that took its place.
    """
    while True:
        path = find_checkpoint(run)
        try:
            return path, load_checkpoint(path, device)
        except RunError:
            if path.exists():
                raise


def not_finite(weights: dict[str, Tensor]) -> str:
    """Return the name of the first tensor with NaN or infinity in it, "" where there is none."""
    return next((name for name, value in weights.items() if not value.isfinite().all()), "")


def build_trained(checkpoint: Checkpoint, path: Path) -> tuple[Tacotron | Recognizer, Config]:
    """Build the network of a checkpoint with its weights, and its settings.

    Raises RunError when settings and weights do not belong together, and for weights that are not
    finite; what a stranger's settings ask for takes no memory before that is known.
    """
    config = config_of(checkpoint, path)
    another = RunError(f"{path}: made by another version of tacoskip; train it again")
    sizes = checkpoint.n_symbols, len(checkpoint.speakers)
    if name := not_finite(checkpoint.weights):
        raise RunError(f"{path}: expected finite weights, got NaN or infinity in '{name}'")
    try:
        with outline():
            expected = build_network(config, *sizes).state_dict()
    except (RuntimeError, ValueError, ArithmeticError, IndexError):  # sizes that no tensor can have
        raise another from None
    shapes = {name: value.shape for name, value in checkpoint.weights.items()}
    if shapes != {name: value.shape for name, value in expected.items()}:
        raise another
    model = build_network(config, *sizes)
    model.load_state_dict(checkpoint.weights)
    return model, config


def checkpoints(run: Path) -> list[Path]:
    """The numbered checkpoints of a run folder, oldest first."""
    return sorted((run / "checkpoints").glob("step-*.pt"))


def runs_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The run folders that stand in a folder, by name; "*/*": in the folders of an ablation."""
    return sorted(path for path in folder.glob(pattern) if (path / "checkpoints").is_dir())


def find_checkpoint(run: str | Path) -> Path:
    """Return the file to use: RUN itself if it is a file, else its best checkpoint, else its
    newest.

    Raises RunError when there is none, naming the nearest run folder, or those inside.
    """
    shown, run = without_secrets(str(run)), Path(run)
    if run.is_file():
        return run
    if not run.is_dir():
        folder = run.parent if run.parent.is_dir() else Path()
        near = nearest_name(run.name, [path.name for path in runs_in(folder)])
        meant = folder / near if near else Path("runs") / run
        hint = f"; did you mean '{meant}'?" if meant.is_dir() else ""
        raise RunError(f"no run folder or checkpoint '{shown}'{hint}")
    if (best := run / "checkpoints" / "best.pt").is_file():
        return best
    if found := checkpoints(run):
        return found[-1]
    if (run / EXPORT).is_file():
        raise RunError(f"expected a run, got '{run}', which was exported from one")
    if inside := [str(path) for path in runs_in(run) or runs_in(run, "*/*")]:
        names = ", ".join(inside[:NAMED]) + (", ..." if len(inside) > NAMED else "")
        raise RunError(f"expected a run, got '{run}', a folder of runs: {names}")
    raise RunError(f"no checkpoint in '{run}'; train it first: tacoskip train recipe=...")


def config_of(checkpoint: Checkpoint, path: str | Path) -> Config:
    """The settings a checkpoint carries; RunError when they do not fit this version of tacoskip."""
    try:
        return from_dict(checkpoint.config, source=str(path))
    except ValueError as error:
        raise RunError(str(error)) from None


def task_of(run: str | Path) -> str:
    """What a run or checkpoint was trained for: tts | asr. Raises RunError as loading it does."""
    path, checkpoint = open_run(run)
    return config_of(checkpoint, path).task
