"""Loading a run: a `Voice` or a `SpeechRecognizer`."""

from pathlib import Path
from typing import Any

import torch

from tacoskip.blocks import prune
from tacoskip.kernels.accelerate import accelerate
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import EXPORT, Checkpoint, RunError, build_trained, open_run
from tacoskip.run_folder.exported import (
    ExportManifest,
    OnnxRecognizer,
    OnnxTacotron,
    read_manifest,
)
from tacoskip.synthesis.voice import Voice
from tacoskip.text.subwords import vocabulary_from


def load(run: str | Path, device: str = "auto") -> Voice | SpeechRecognizer:
    """Load a run folder, a checkpoint file or a folder that `tacoskip export` wrote.

    device: auto | cpu | cuda; an exported run always uses the CPU. Raises RunError (a ValueError)
    for a run that does not exist, has no checkpoint, is damaged or contains code.
    """
    source: ExportManifest | Checkpoint
    model: Any
    if (Path(run) / EXPORT).is_file():
        path = Path(run)
        source, config = read_manifest(path)
        symbols = len(source.symbols)
        asr, n_mels = config.task == "asr", config.audio.n_mels
        model = OnnxRecognizer(path, config) if asr else OnnxTacotron(path, source, n_mels)
    else:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        path, source = open_run(run, device)
        symbols = source.n_symbols
        model, config = build_trained(source, path)
        prune(model)
        accelerate(model.to(device))
    loaded: Voice | SpeechRecognizer
    if config.task == "tts":
        texts = source.speakers, source.frames_per_symbol, source.seen_symbols
        loaded = Voice(model, config, *texts)
        expected = len(loaded.tokenizer)
    else:
        try:
            vocabulary = vocabulary_from(source.vocabulary)
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error})") from None
        loaded, expected = SpeechRecognizer(model, config, vocabulary), len(vocabulary)
    if symbols != expected:
        raise RunError(f"{path}: expected weights for {expected} symbols or tokens, got {symbols}")
    return loaded


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
