"""Where speech starts and ends in a clip."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A click sounds in up to three frames of 25 ms every 10 ms; speech goes on for four or more.
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
    x = np.asarray(wave)
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64)
    if x.ndim != 1:
        raise ValueError(f"expected a wave (N,), got {x.shape}")
    if len(x) == 0:
        return 0, 0
    frame, hop = (
        max(1, round(FRAME_SECONDS * sample_rate)),
        max(1, round(HOP_SECONDS * sample_rate)),
    )
    level = _levels(x, _median(x), frame, hop)
    sustained = level
    if len(level) >= SUSTAINED:
        runs = np.lib.stride_tricks.sliding_window_view(level, SUSTAINED).min(axis=1)
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


def _median(x: NDArray[np.floating]) -> float:
    """The median, several times as fast as numpy's, which selects both middles and looks for NaN.

    numpy selects one number by SIMD; of an even count the other is the largest of those below.
    """
    middle = len(x) // 2
    found = np.partition(x, middle)
    upper = float(found[middle])
    return upper if len(x) % 2 else (float(found[:middle].max()) + upper) / 2


def _levels(x: NDArray[np.floating], offset: float, frame: int, hop: int) -> NDArray[np.float64]:
    """RMS of each frame of x - offset, zeros after the end so that the last samples count.

    A frame is some whole hops and the first `rest` samples of one more: each sample is squared
    once for the one, and some for the other, which takes less than frame by frame.
    """
    hops, rest = divmod(frame, hop)
    count = 1 + max(0, -(-(len(x) - frame) // hop))
    samples = np.empty((count + hops) * hop)
    np.subtract(x, offset, out=samples[: len(x)], dtype=np.float64)
    samples[len(x) :] = 0.0
    rows = samples.reshape(-1, hop)
    whole = np.einsum("ij,ij->i", rows, rows)
    part = np.einsum("ij,ij->i", rows[:, :rest], rows[:, :rest])
    energy = part[hops:]
    for k in range(hops):
        energy = energy + whole[k : k + count]
    return np.sqrt(energy / frame)
