"""Who judges speech: a recognizer of this project or Whisper, and a predictor of naturalness.

N samples.
"""

import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.loading import load_recognizer
from tacoskip.messages import nearest
from tacoskip.text.letters import plain_words

WHISPER = "whisper"
JUDGE_RATE = 16_000  # Hz, of Whisper and of DistillMOS
SHORTEST_SECONDS = 0.1

Judge = Callable[[NDArray[np.float32], int], str]  # wave (N,), sample rate -> words
Naturalness = Callable[[NDArray[np.float32], int], float]  # wave (N,), sample rate -> 1 to 5


def load_judge(name: str, device: str = "auto") -> Judge:
    """Load `whisper`, `whisper:SIZE`, `whisper:FOLDER`, or the run of a recognizer.

    A judge returns plain words ("ten", not "10"), so that its spelling does not count. Raises
    ValueError where Whisper is not installed or its model cannot be loaded, RunError as `load`
    does.
    """
    kind, _, model = name.partition(":")
    if kind == WHISPER:
        return _whisper(model or "base", device)
    if not Path(name).exists() and (hint := nearest(kind, [WHISPER], cutoff=0.7)):
        raise ValueError(f"unknown judge '{name}'{hint}")
    recognizer = load_recognizer(name, device)
    return lambda wave, rate: recognizer.transcribe(wave, rate).text if wave.size else ""


def _whisper(model: str, device: str) -> Judge:
    import soxr

    try:
        from faster_whisper import WhisperModel
    except ImportError:
        message = "a judge 'whisper' needs faster-whisper: pip install 'tacoskip[judge]'"
        raise ValueError(message) from None
    try:
        compute = "int8" if device == "cpu" else "default"
        loaded = WhisperModel(model, device=device, compute_type=compute)
    except Exception as error:  # of the hub, of files, of CTranslate2
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"whisper:{model} cannot be loaded ({reason})") from None

    def transcribe(wave: NDArray[np.float32], sample_rate: int) -> str:
        samples = soxr.resample(wave, sample_rate, JUDGE_RATE)
        segments, _ = loaded.transcribe(
            samples, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return plain_words(" ".join(segment.text for segment in segments))

    return transcribe


def load_mos(device: str = "auto") -> Naturalness:
    """Load DistillMOS (Stahl and Gamper 2025), which predicts a mean opinion score, 1 to 5.

    Trained on telephony and codecs: for rank only. Raises ValueError where it is not installed.
    """
    import soxr

    try:
        from distillmos import ConvTransformerSQAModel
    except ImportError:
        raise ValueError("--mos needs distillmos: pip install 'tacoskip[judge]'") from None
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with redirect_stdout(sys.stderr):
        model = ConvTransformerSQAModel().to(device).eval()

    @torch.inference_mode()
    def predict(wave: NDArray[np.float32], sample_rate: int) -> float:
        samples = soxr.resample(wave, sample_rate, JUDGE_RATE)
        if len(samples) < SHORTEST_SECONDS * JUDGE_RATE:
            return math.nan
        return float(model(torch.from_numpy(samples)[None].to(device)))

    return predict
