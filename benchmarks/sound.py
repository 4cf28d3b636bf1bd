"""A stretch of speech to work on: recordings if there are some, else espeak-ng's voice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio import read_audio
from tacoskip.data.corpora.demo import sentences, synthesize_clip


def stretch(seconds: float, rate: int, wavs: Path | None = None) -> NDArray[np.float32]:
    """Return a wave (N,) of `seconds`: clips of a folder one after another, again where they end,
    or the demo corpus' sentences, for which espeak-ng must be there.
    """
    wanted, pieces, held = round(seconds * rate), list[NDArray[np.float32]](), 0
    files = sorted(wavs.glob("*.wav")) if wavs else []
    if wavs and not files:
        raise SystemExit(f"no wav files in {wavs}")
    texts = sentences()
    while held < wanted:
        number = len(pieces)
        if files:
            piece = read_audio(files[number % len(files)], rate)[0]
        else:
            piece = synthesize_clip(texts[number % len(texts)], rate)
        pieces.append(piece)
        held += len(piece)
    return np.concatenate(pieces)[:wanted].astype(np.float32)
