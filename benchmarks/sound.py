"""Speech to measure with: recordings of a folder, or the demo corpus spoken by espeak-ng."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio import read_audio
from tacoskip.data.corpora.demo import sentences, synthesize_clip


def speech(seconds: float, rate: int, wavs: Path | None = None) -> NDArray[np.float32]:
    """Return `seconds` of speech (N,): clips one after another, repeated if they do not suffice."""
    files = sorted(wavs.glob("*.wav")) if wavs else []
    if wavs and not files:
        raise SystemExit(f"no wav files in {wavs}")
    texts = sentences()
    clips, missing = list[NDArray[np.float32]](), round(seconds * rate)
    while missing > 0:
        number = len(clips)
        if files:
            clip = read_audio(files[number % len(files)], rate)[0]
        else:
            clip = synthesize_clip(texts[number % len(texts)], rate)
        clips.append(clip[:missing])
        missing -= len(clip)
    return np.concatenate(clips).astype(np.float32)
