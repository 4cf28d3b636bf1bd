"""Loading a run: a `Voice` or a `SpeechRecognizer`."""

from pathlib import Path

import torch

from tacoskip.blocks import prune
from tacoskip.kernels.accelerate import accelerate
from tacoskip.models.recognizer import Recognizer
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import RunError, build_trained, open_run
from tacoskip.run_folder.exported import (
    OnnxRecognizer,
    OnnxTacotron,
    is_exported,
    read_manifest,
)
from tacoskip.synthesis.voice import Voice
from tacoskip.text.subwords import Vocabulary, vocabulary_from


def load(run: str | Path, device: str = "auto") -> Voice | SpeechRecognizer:
    """Load a run folder, a checkpoint file or a folder that `tacoskip export` wrote.

    device: auto | cpu | cuda; an exported run always takes the CPU. Raises RunError (a ValueError)
    for a run that does not exist, has no checkpoint, is damaged or contains code.
    """
    if is_exported(run):
        return _load_exported(Path(run))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    path, checkpoint = open_run(run, device)
    model, config = build_trained(checkpoint, path)
    prune(model)
    accelerate(model.to(device))
    if isinstance(model, Recognizer):
        return SpeechRecognizer(model, config, _vocabulary(checkpoint.vocabulary, path))
    return Voice(
        model, config, checkpoint.speakers, checkpoint.frames_per_symbol, checkpoint.seen_symbols
    )


def _vocabulary(model: str, path: Path) -> Vocabulary:
    try:
        return vocabulary_from(model)
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error})") from None


def _load_exported(folder: Path) -> Voice | SpeechRecognizer:
    manifest, config = read_manifest(folder)
    if config.task == "asr":
        return SpeechRecognizer(
            OnnxRecognizer(folder, config), config, _vocabulary(manifest.vocabulary, folder)
        )
    return Voice(
        OnnxTacotron(folder, manifest, config.audio.n_mels),
        config,
        manifest.speakers,
        manifest.frames_per_symbol,
        manifest.seen_symbols,
    )


def load_voice(run: str | Path, device: str = "auto") -> Voice:
    """Load a run that must be a voice; raises RunError as `load` does."""
    voice = load(run, device)
    if not isinstance(voice, Voice):
        raise RunError(f"{run}: expected a voice, got a recognizer (task=asr); try: transcribe")
    return voice


def load_recognizer(run: str | Path, device: str = "auto") -> SpeechRecognizer:
    """Load a run that must be a recognizer; raises RunError as `load` does."""
    recognizer = load(run, device)
    if not isinstance(recognizer, SpeechRecognizer):
        raise RunError(f"{run}: expected a recognizer, got a voice (task=tts); try: synthesize")
    return recognizer
