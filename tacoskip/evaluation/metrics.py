"""Scores of synthesised speech: its distance to a recording, and how well attention read the text.

T frames (of a mel or, in alignments, of decoder steps), S symbols, M mels, N samples.

`mcd_db`: mel-cepstral distortion, Kubichek, "Mel-cepstral distance measure for objective speech
quality assessment", PACRIM 1993. `f0_rmse_cents`: fundamental frequency by YIN, de Cheveigne and
Kawahara, JASA 111(4) 2002. Both compare frames that dynamic time warping put together (Sakoe and
Chiba 1978). docs/evaluation.md has the definitions in full.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

Array = np.ndarray | Tensor

N_CEPSTRA = 13
F0_MIN, F0_MAX = 60.0, 500.0  # Hz: from a low male creak to an excited child
VOICED_CORRELATION = 0.5
VOICED_RANGE_DB = 40.0
REACH = 4  # symbols one decoder step may advance and still have read what it passed
STEADY, SHARP = 0.8, 0.2  # below these `alignment_warnings` speaks up


def _array(values: Array, dimensions: str) -> np.ndarray:
    """Return float64 values, after a check of the number of dimensions named like "(T, M)"."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != dimensions.count(",") + 1 or array.size == 0:
        raise ValueError(f"expected a non-empty array {dimensions}, got shape {array.shape}")
    return array.astype(np.float64)


def mel_cepstra(mel: Array) -> np.ndarray:
    """Return cepstral coefficients 1 to 13 (T, 13) of log10 mel magnitudes (T, M).

    The natural log over the M bands is written as ln X_m = c_0 + sum_k c_k cos(pi k (m + 1/2) / M):
    an orthonormal DCT-II times sqrt(2 / M). This scale, that of a mel-cepstrum by definition, makes
    `mcd_db` decibels whatever the number of mels; with a bare orthonormal DCT it would grow with
    sqrt(M / 2).

    Raises ValueError when there are not more than 13 mels.
    """
    from scipy.fft import dct

    log_mel = _array(mel, "(T, M)") * np.log(10)
    n_mels = log_mel.shape[1]
    if n_mels <= N_CEPSTRA:
        raise ValueError(f"expected more than {N_CEPSTRA} mels, got {n_mels}")
    cepstra = np.asarray(dct(log_mel, type=2, norm="ortho", axis=1)) * np.sqrt(2 / n_mels)
    return np.asarray(cepstra[:, 1 : N_CEPSTRA + 1])


def dtw_path(cost: np.ndarray) -> np.ndarray:
    """Return the cheapest path (P, 2) of index pairs, corner to corner, through a cost (T1, T2).

    Steps (1, 1), (1, 0) and (0, 1), all of weight one. Cells of one anti-diagonal do not depend on
    each other, so the work is T1 + T2 vector operations and needs no compiler.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        before = np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
        total[i + 1, j + 1] = cost[i, j] + before
    i, j = rows, columns
    path = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda cell: total[cell])
        path.append((i - 1, j - 1))
    return np.array(path[::-1])


def mel_path(mel_reference: Array, mel_candidate: Array) -> tuple[np.ndarray, np.ndarray]:
    """Warp (T1, M) onto (T2, M): return the path (P, 2) and the dB (P,) of each pair on it."""
    from scipy.spatial.distance import cdist

    reference, candidate = mel_cepstra(mel_reference), mel_cepstra(mel_candidate)
    distortion = 10 / np.log(10) * np.sqrt(2) * cdist(reference, candidate)
    path = dtw_path(distortion)
    return path, distortion[path[:, 0], path[:, 1]]


def mcd_db(mel_reference: Array, mel_candidate: Array) -> float:
    """Return the mel-cepstral distortion in dB of two log10 mel magnitudes (T1, M), (T2, M).

    The mean along the warping path of 10 / ln 10 * sqrt(2 * sum_k (c_k - c'_k)^2), k = 1..13.
    Without c_0 it does not hear loudness. Raises ValueError on an empty mel or one of 13 or fewer
    bands.
    """
    return float(mel_path(mel_reference, mel_candidate)[1].mean())


def f0_hz(wave: Array, sample_rate: int, hop_length: int) -> np.ndarray:
    """Return F0 in Hz (1 + N // hop_length,) of a wave (N,), NaN where the frame is not voiced.

    YIN proposes a period for every frame, noise and silence included. A frame counts as voiced when
    it repeats itself at that period (normalised cross-correlation of 0.5, where Praat takes 0.45,
    which white noise does not reach) and its level is within 40 dB of the loudest frame, which
    leaves out hum between words.
    """
    import librosa

    samples = _array(wave, "(N)")
    # Four periods of the lowest voice: YIN needs two, more is steadier.
    window = 4 * round(sample_rate / F0_MIN)
    f0 = librosa.yin(
        samples,
        fmin=F0_MIN,
        fmax=F0_MAX,
        sr=sample_rate,
        frame_length=window,
        hop_length=hop_length,
    )
    padded = np.pad(samples, window // 2)
    frames = librosa.util.frame(padded, frame_length=window, hop_length=hop_length, axis=0)
    lags = np.rint(sample_rate / f0).astype(int)
    later = np.arange(window) + lags[:, None]
    inside = later < window
    shifted = np.where(inside, np.take_along_axis(frames, np.minimum(later, window - 1), axis=1), 0)
    kept = np.where(inside, frames, 0)
    energies = np.square(kept).sum(axis=1) * np.square(shifted).sum(axis=1)
    correlation = (kept * shifted).sum(axis=1) / np.sqrt(np.maximum(energies, 1e-20))
    power = np.square(frames).mean(axis=1)
    loud = power > max(power.max() * 10 ** (-VOICED_RANGE_DB / 10), 1e-10)
    voiced = loud & (correlation > VOICED_CORRELATION) & (f0 > F0_MIN) & (f0 < F0_MAX)
    return np.where(voiced, f0, np.nan)


def f0_rmse_cents(
    wave_reference: Array,
    wave_candidate: Array,
    sample_rate: int,
    hop_length: int,
    path: np.ndarray,
) -> float:
    """Return the root mean square difference of F0 in cents where both frames of a pair are voiced.

    path: (P, 2) frame pairs, those of `mel_path`. NaN when no pair is voiced on both sides.
    Raises ValueError when the path runs past the end of a wave.
    """
    reference = f0_hz(wave_reference, sample_rate, hop_length)
    candidate = f0_hz(wave_candidate, sample_rate, hop_length)
    last = tuple(int(index) for index in path.max(axis=0))
    if last[0] >= len(reference) or last[1] >= len(candidate):
        raise ValueError(
            f"expected a path within {len(reference)} and {len(candidate)} frames, "
            f"got one that ends at {last}"
        )
    cents = 1200 * np.log2(candidate[path[:, 1]] / reference[path[:, 0]])
    cents = cents[np.isfinite(cents)]
    return float(np.sqrt(np.square(cents).mean())) if cents.size else float("nan")


def compare_speech(
    wave_reference: Array,
    wave_candidate: Array,
    sample_rate: int,
    hop_length: int,
    mel_reference: Array,
    mel_candidate: Array,
) -> dict[str, float]:
    """Return `mcd_db` and `f0_rmse_cents` of two waves (N,) and their mels, aligned once."""
    path, distortion = mel_path(mel_reference, mel_candidate)
    cents = f0_rmse_cents(wave_reference, wave_candidate, sample_rate, hop_length, path)
    return {"mcd_db": float(distortion.mean()), "f0_rmse_cents": cents}


def spectral_convergence(reference: Array, candidate: Array) -> float:
    """Return the Frobenius norm of a difference of magnitudes (T, F) over the reference's norm."""
    expected, got = _array(reference, "(T, F)"), _array(candidate, "(T, F)")
    if expected.shape != got.shape:
        raise ValueError(f"expected magnitudes of shape {expected.shape}, got {got.shape}")
    return float(np.linalg.norm(expected - got) / max(float(np.linalg.norm(expected)), 1e-12))


@dataclass(frozen=True)
class AlignmentScore:
    """How attention read the text, measured on the best path that never goes back.

    sharpness: mean weight on the path. coverage: share of symbols read. monotonic: share of steps
    whose largest weight is on the path (within one symbol) and that do not jump. reached_end:
    whether the last symbols were read. score: the product of the three shares, the figure called
    `alignment`. last_symbol: index of the last symbol read. skipped: first and last index of each
    run of symbols that a jump left out.
    """

    sharpness: float
    coverage: float
    monotonic: float
    reached_end: bool
    score: float
    last_symbol: int
    skipped: tuple[tuple[int, int], ...]


def monotonic_path(weights: np.ndarray) -> np.ndarray:
    """Return the symbol (T,) of each step on the heaviest path through (T, S) that never goes back.

    Dynamic programming; jumps forward are free, so that they can be seen and counted. Ties stay
    where they are.
    """
    steps, symbols = weights.shape
    index = np.arange(symbols)
    before = np.zeros((steps, symbols), dtype=int)
    total = weights[0]
    for step in range(1, steps):
        best = np.maximum.accumulate(total)
        before[step] = np.maximum.accumulate(np.where(total >= best, index, 0))
        total = best + weights[step]
    path = np.zeros(steps, dtype=int)
    path[-1] = int(total.argmax())
    for step in range(steps - 1, 0, -1):
        path[step - 1] = before[step, path[step]]
    return path


def alignment_score(
    alignment: Array, frames: int | None = None, symbols: int | None = None
) -> AlignmentScore:
    """Score attention weights (T, S); the first `frames` steps and `symbols` are real (or all).

    A symbol is read when the path rests on it with at least half of that step's largest weight, or
    is passed in an advance of up to 4 symbols (half the text when that is less), as a silent letter
    or a quick word would be. Random sharp attention scores low because no path that never goes back
    holds its weight. NaN weighs nothing. Raises ValueError when `frames` or `symbols` are outside
    1..T and 1..S.
    """
    weights = np.nan_to_num(_array(alignment, "(T, S)"))
    frames = weights.shape[0] if frames is None else int(frames)
    symbols = weights.shape[1] if symbols is None else int(symbols)
    if not (1 <= frames <= weights.shape[0] and 1 <= symbols <= weights.shape[1]):
        raise ValueError(f"expected frames, symbols in 1..{weights.shape}, got {(frames, symbols)}")
    weights = weights[:frames, :symbols]
    path = monotonic_path(weights)
    on_path = weights[np.arange(frames), path]
    firm = (on_path >= 0.5 * weights.max(axis=1)) & (on_path > 0)
    read = np.unique(path[firm])
    reach = min(REACH, max(1, symbols // 2))
    edges = np.concatenate([[-1], read, [symbols]])
    unread = [(int(a) + 1, int(b) - 1) for a, b in pairwise(edges) if b - a > reach]
    last = int(edges[-2])
    reached_end = symbols - last <= reach
    coverage = 1 - sum(b - a + 1 for a, b in unread) / symbols
    steady = (np.abs(weights.argmax(axis=1) - path) <= 1) & (
        np.diff(path, prepend=path[0]) <= reach
    )
    sharpness, monotonic = float(on_path.mean()), float(steady.mean())
    return AlignmentScore(
        sharpness=sharpness,
        coverage=coverage,
        monotonic=monotonic,
        reached_end=reached_end,
        score=sharpness * coverage * monotonic,
        last_symbol=max(last, 0),
        skipped=tuple(unread if reached_end else unread[:-1]),
    )


def alignment_warnings(alignment: Array, stopped: bool) -> list[str]:
    """Say in plain words what went wrong with attention (T, S); an empty list when nothing did.

    alignment: cut to its real steps and symbols, which are counted from 1 in the words.
    stopped: whether the decoder ended by itself.
    """
    found = alignment_score(alignment)
    steps, symbols = alignment.shape
    warnings = []
    for first, last in found.skipped:
        where = f"symbol {first + 1}" if first == last else f"symbols {first + 1} to {last + 1}"
        warnings.append(f"attention skipped {where} of {symbols}")
    if not found.reached_end:
        verb = "speech stopped early" if stopped else "attention stuck"
        warnings.append(f"{verb} at symbol {found.last_symbol + 1} of {symbols}")
    if found.monotonic < STEADY:
        lost = round(steps * (1 - found.monotonic))
        warnings.append(f"attention went back or jumped in {lost} of {steps} steps")
    if found.sharpness < SHARP:
        warnings.append(f"attention is blurred (mean weight {found.sharpness:.2f})")
    if not stopped:
        warnings.append("speech did not stop by itself")
    return warnings
