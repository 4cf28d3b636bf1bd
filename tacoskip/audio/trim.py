"""Where speech starts and ends in a clip."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

# A click sounds in up to three frames of 25 ms every 10 ms; speech lasts for four or more.
FRAME_SECONDS, HOP_SECONDS = 0.025, 0.010
SUSTAINED = 4
# A short sound this near to speech belongs to it, such as the release of a final t.
NEAR_FRAMES = 20
# Below -100 dB a clip is silent.
SILENCE = 1e-5


def trim_silence(
    wave: ArrayLike, sample_rate: int, threshold_db: float = 40.0, margin_ms: float = 50.0
) -> tuple[int, int]:
    """Find what is louder than the clip's loudest sustained frame less `threshold_db`.

    Shorter sounds, clicks, count only within 0.2 s of sustained ones or where nothing is sustained.
    A constant offset is not sound. `margin_ms` is kept on either side.
    Returns (start, end) in samples of the wave (N,); (0, 0) when all of it is silent.
    """
    x = np.asarray(wave, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"expected a wave (N,), got {x.shape}")
    if len(x) == 0:
        return 0, 0
    frame, hop = (max(1, round(s * sample_rate)) for s in (FRAME_SECONDS, HOP_SECONDS))
    level = _levels(x, frame, hop)
    sustained = level
    if len(level) >= SUSTAINED:
        runs = sliding_window_view(level, SUSTAINED).min(axis=1)
        sustained = runs if runs.max() > SILENCE else level
    peak = sustained.max()
    if peak <= SILENCE:
        return 0, 0
    threshold = max(SILENCE, peak * 10 ** (-threshold_db / 20))
    found = np.flatnonzero(sustained > threshold)
    first, last = int(found[0]), int(found[-1]) + len(level) - len(sustained)
    loud = np.flatnonzero(level > threshold).tolist()
    for i in loud:
        if last < i <= last + NEAR_FRAMES:
            last = i
    for i in reversed(loud):
        if first - NEAR_FRAMES <= i < first:
            first = i
    margin = round(margin_ms / 1000 * sample_rate)
    return max(0, first * hop - margin), min(len(x), last * hop + frame + margin)


def _levels(x: NDArray[np.float64], frame: int, hop: int) -> NDArray[np.float64]:
    """RMS of each frame of x without its median, zeros after the end: the last samples count."""
    padding = (frame - len(x)) if len(x) < frame else -(len(x) - frame) % hop
    centred = np.pad(x - np.median(x), (0, padding))
    frames = sliding_window_view(centred, frame)[::hop]
    power: NDArray[np.float64] = np.einsum("ij,ij->i", frames, frames) / frame
    return np.sqrt(power)
