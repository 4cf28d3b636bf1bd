"""A run folder: what stands where, and checkpoints that load without executing anything.

    config.yaml         the resolved settings
    environment.json    versions, commit, seed, parameter count
    checkpoints/        step-00001000.pt ..., best.pt
    events.*            TensorBoard
    samples/            what was synthesised while training
    metrics.json        what `evaluate` measured
    probes.json         what the probes and the study of the finished network found

A checkpoint alone is enough to use the model elsewhere: settings, symbols and speakers travel with
the weights.
"""

import os
import pickle
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacoskip.config import Config, from_dict
from tacoskip.config_checks import with_block
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron


class RunError(ValueError):
    """A run folder or checkpoint that cannot be used: one line that says what to do."""


@dataclass
class Checkpoint:
    """What a checkpoint holds. `weights` are what to use (averaged), `training` what a resume
    needs, `units` a recogniser's pieces of words (`tacoskip.text.pieces`), "" where it has none.
    """

    config: dict[str, Any]
    speakers: list[str]
    n_symbols: int
    frames_per_symbol: float
    step: int
    weights: dict[str, Tensor]
    training: dict[str, Any]
    units: str = ""


def build_tacotron(config: Config, n_symbols: int, n_speakers: int) -> Tacotron:
    """Build the voice a config describes, freshly initialised."""
    return Tacotron(
        n_symbols,
        config.audio.n_mels,
        config.audio.n_bins,
        n_speakers,
        config.tts,
        with_block(config.cbhg, config),
        with_block(config.postnet, config),
    )


def build_recognizer(config: Config, n_units: int) -> Recognizer:
    """Build the recogniser a config describes, freshly initialised."""
    audio = config.audio
    return Recognizer(
        audio.n_mels,
        n_units,
        audio.sample_rate / audio.hop_length,
        config.asr,
        with_block(config.cbhg, config),
    )


def build_network(config: Config, n_symbols: int, n_speakers: int) -> Tacotron | Recognizer:
    """Build the network of a config's task, freshly initialised."""
    if config.task == "asr":
        return build_recognizer(config, n_symbols)
    return build_tacotron(config, n_symbols, n_speakers)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint so that a crash at any moment leaves either the old file or the whole new
    one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(vars(checkpoint), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint: tensors and plain values only, nothing in it is ever executed.

    Raises RunError for a file that is damaged, is something else, or carries code.
    """
    try:
        with warnings.catch_warnings():
            # torch's advice to report a pickle that it does not write itself; it is refused here.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            values = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged or foreign file can make the unpickler fail in any way
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise RunError(
                f"{path}: refused, the file wants to run code and is no tacoskip checkpoint"
            ) from None
        raise RunError(f"{path}: damaged or not a tacoskip checkpoint") from None
    try:
        return Checkpoint(**values)
    except TypeError:
        if isinstance(values, dict) and {"config", "weights"} <= values.keys():
            raise RunError(f"{path}: made by another version of tacoskip") from None
        raise RunError(f"{path}: damaged or not a tacoskip checkpoint") from None


def checkpoints(run: Path) -> list[Path]:
    """The numbered checkpoints of a run folder, oldest first."""
    return sorted((run / "checkpoints").glob("step-*.pt"))


def find_checkpoint(run: str | Path) -> Path:
    """Return the file to speak with: RUN itself if it is a file, else its best checkpoint, else its
    newest.

    Raises RunError when there is none, naming the nearest run folder.
    """
    run = Path(run)
    if run.is_file():
        return run
    if not run.is_dir():
        folder = run.parent if run.parent.is_dir() else Path()
        names = sorted(path.name for path in folder.iterdir() if (path / "checkpoints").is_dir())
        near = get_close_matches(run.name, names, n=1)
        hint = f"; did you mean '{folder / near[0]}'?" if near else ""
        raise RunError(f"no run folder or checkpoint '{run}'{hint}")
    best = run / "checkpoints" / "best.pt"
    if best.is_file():
        return best
    found = checkpoints(run)
    if not found:
        raise RunError(f"no checkpoint in '{run}'; train it first: tacoskip train recipe=...")
    return found[-1]


def config_of(checkpoint: Checkpoint, path: Path) -> Config:
    """The settings a checkpoint carries; RunError when they do not fit this version of tacoskip."""
    try:
        return from_dict(checkpoint.config, source=str(path))
    except ValueError as error:
        raise RunError(str(error)) from None


def task_of(run: str | Path) -> str:
    """What a run or checkpoint was trained for: tts | asr. Raises RunError as loading it does."""
    path = find_checkpoint(run)
    return config_of(load_checkpoint(path), path).task
