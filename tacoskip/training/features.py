"""Features on the device that trains, from samples that the loader sends.

Samples are 8 to 10 times smaller than features, and a GPU computes those of a batch in little time,
so that no step waits for the loader.

B batch, N samples, T mel frames, M mels, F linear bins.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.audio import FrontEnd
from tacoskip.audio.frames import Frames, preemphasis
from tacoskip.data.loading import FULL_SCALE, Batch, Loader

FRAMES_AT_ONCE = 4096  # their spectra take 70 to 140 MB


class DeviceFeatures:
    """Computes mel and linear spectrograms of a batch of samples as `FrontEnd.features` does.

    In float64 like the front end, and without a point where the host waits for the device.
    """

    def __init__(self, front_end: FrontEnd, device: torch.device | str, linear: bool) -> None:
        s = front_end.settings
        self.settings, self.linear, self.smallest = s, linear, 10**front_end.floor
        self.frames = Frames(s.fft_length, s.hop_length, s.window_length, torch.float64)
        self.frames.window = self.frames.window.to(device)
        self.basis = front_end.mel_basis.to(device, torch.float64)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with features for its samples; one without samples as it is."""
        samples, lengths = batch.samples, batch.sample_lengths
        if samples is None or lengths is None:
            return batch
        mel, linear = self._spectrograms(samples, lengths)
        count = torch.arange(mel.shape[1], device=mel.device)
        padding = (count >= batch.mel_lengths[:, None])[..., None]
        return replace(
            batch,
            mel=mel.masked_fill_(padding, 0.0),
            linear=linear.masked_fill_(padding, 0.0),
            samples=None,
            sample_lengths=None,
        )

    def _spectrograms(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log10 mel (B, T, M) and linear (B, T, F or 0) of samples (B, N), lengths (B,)."""
        s, frames = self.settings, self.frames
        wave = samples.double() if samples.is_floating_point() else samples.double() / FULL_SCALE
        count = torch.arange(wave.shape[1], device=wave.device)
        # Pre-emphasis would sound on for one sample after the last.
        wave = preemphasis(wave, s.preemphasis).masked_fill_(count >= lengths[:, None], 0.0)
        shape = len(wave), 1 + wave.shape[1] // s.hop_length
        wave = functional.pad(wave, (frames.lead, s.window_length))
        mel = wave.new_empty(*shape, s.n_mels, dtype=torch.float32)
        linear = wave.new_empty(*shape, s.n_bins if self.linear else 0, dtype=torch.float32)
        size = max(1, FRAMES_AT_ONCE // max(1, len(wave)))
        for start in range(0, shape[1], size):
            block = slice(start, min(start + size, shape[1]))
            magnitude = frames.transform(wave, block).abs()
            mel[:, block] = (magnitude @ self.basis).clamp_min_(self.smallest).log10_()
            if self.linear:
                linear[:, block] = magnitude.clamp_min_(self.smallest).log10_()
        return mel, linear


def device_features(
    front_end: FrontEnd, loader: Loader, device: torch.device, log: Callable[..., None]
) -> DeviceFeatures | None:
    """Return what computes features on the device, and have the loader send samples.

    None where the loader computes them: on a CPU, and with TACOSKIP_DEVICE_FEATURES=0 in the
    environment; with 1 a CPU does so too.
    """
    cuda = device.type == "cuda"
    enabled = os.environ.get("TACOSKIP_DEVICE_FEATURES", "1" if cuda else "0") == "1"
    if cuda or enabled:
        log(f"features: computed {'from samples on the device' if enabled else 'by the loader'}")
    if not enabled:
        return None
    loader.send_samples()
    return DeviceFeatures(front_end, device, loader.linear)
