"""Distances of synthesized speech to a recording.

T mel frames, M mels, N samples.

`mcd_db`: mel-cepstral distortion, Kubichek, "Mel-cepstral distance measure for objective speech
quality assessment", PACRIM 1993. `f0_rmse_cents`: fundamental frequency by YIN, de Cheveigne and
Kawahara, JASA 111(4) 2002. Both compare frames paired by dynamic time warping (Sakoe and
Chiba 1978). docs/reference/figures.md has the definitions in full.
"""

import numpy as np
from torch import Tensor

Array = np.ndarray | Tensor

N_CEPSTRA = 13
F0_MIN, F0_MAX = 60.0, 500.0  # Hz: from a low male creak to an excited child
VOICED_CORRELATION = 0.5
VOICED_RANGE_DB = 40.0


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
    Without c_0 loudness does not count. Raises ValueError on an empty mel or one of 13 or fewer
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
    """
    reference = f0_hz(wave_reference, sample_rate, hop_length)
    candidate = f0_hz(wave_candidate, sample_rate, hop_length)
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
