"""Griffin-Lim on a stream: frames go in by chunks, samples come out, and the joins do not click.

A sample is settled once `LOOKAHEAD` frames beyond it are known, and then stays. Later chunks run
Griffin-Lim only on the frames that still touch unsettled samples: their phases begin where the last
chunk left them, and the new frames' phases are integrated onwards from those.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio.emphasis import deemphasis
from tacoskip.audio.frames import Frames
from tacoskip.audio.inversion import check_magnitudes, project, sharpen
from tacoskip.audio.phase import integrate_phase
from tacoskip.audio.settings import AudioSettings, GriffinLimSettings

# Frames that a sample waits for: 100 ms at Tacotron's hop of 12.5 ms.
LOOKAHEAD = 8


class GriffinLimStream:
    """The inverse of one utterance in chunks, on the CPU; as many samples as `FrontEnd.to_wave`."""

    def __init__(
        self, audio: AudioSettings, settings: GriffinLimSettings | None = None, seed: int = 0
    ) -> None:
        self.audio = audio
        self.settings = settings or GriffinLimSettings()
        self.seed = seed
        self._frames = Frames(audio.fft_length, audio.hop_length, audio.window_length)
        self._begin()

    def _begin(self) -> None:
        self._noise = np.random.default_rng(self.seed)
        self._loudest = 0.0
        self._last_sample = 0.0
        self._settled = 0  # hops of samples given out
        self._first = 0  # the first frame that touches later samples; frames from it on are held
        self._magnitude = torch.zeros(0, self._frames.n_bins)
        self._phase = np.zeros((0, self._frames.n_bins), np.float32)
        # Settled samples under the first frame held; before the utterance there is silence.
        self._past = torch.zeros(self._frames.lead)

    def push(self, linear: Tensor) -> NDArray[np.float32]:
        """Take log10 magnitudes (T, F) and return the samples (N,) that they settle; N may be 0.

        Raises ValueError when the shape does not fit or a magnitude is not finite.
        """
        if linear.ndim != 2 or linear.shape[1] != self._frames.n_bins:
            expected = f"expected log magnitudes (T, {self._frames.n_bins})"
            raise ValueError(f"{expected}, got {tuple(linear.shape)}")
        if len(linear) == 0:
            return np.zeros(0, np.float32)
        new = sharpen(linear.cpu(), self.audio, self.settings.sharpening)
        check_magnitudes(new[None], self._frames.n_bins)
        self._magnitude = torch.cat([self._magnitude, new])
        self._phase = np.concatenate([self._phase, self._first_phase(len(new))])
        if self.settings.phase == "pghi":
            self._loudest = max(self._loudest, float(new.max()))
            frames, known = self._frames, len(self._phase) - len(new)
            shape = frames.n_fft, frames.hop_length, frames.window_length
            integrate_phase(self._magnitude.numpy(), self._phase, *shape, known, self._loudest)
        return self._settle(final=False)

    def flush(self) -> NDArray[np.float32]:
        """Return the samples still held back. A `push` after it begins a new utterance."""
        samples = self._settle(final=True) if len(self._magnitude) else np.zeros(0, np.float32)
        self._begin()
        return samples

    def _first_phase(self, count: int) -> NDArray[np.float32]:
        if self.settings.phase == "zero":
            return np.zeros((count, self._frames.n_bins), np.float32)
        noise = self._noise.random((count, self._frames.n_bins), np.float32)
        return noise * np.float32(2 * np.pi)

    def _settle(self, final: bool) -> NDArray[np.float32]:
        """Run Griffin-Lim on the frames held, give out what is settled, forget frames behind it."""
        frames, hop = self._frames, self.audio.hop_length
        count = len(self._magnitude)
        last = self._first + count - 1
        envelope = frames.envelope(torch.ones(1, count))
        scale = envelope.clamp_min(1e-8).reciprocal()
        fixed = torch.zeros_like(scale)
        scale[:, : len(self._past)] = 0
        fixed[:, : len(self._past)] = self._past
        # Beyond the last centre the utterance ends, or frames are missing and the wave fades out.
        scale[:, frames.lead + (count - 1) * hop :] = 0 if final else 1 / envelope.max()
        phase = torch.from_numpy(self._phase)
        (buffer,) = project(self._magnitude[None], phase[None], frames, scale, fixed, self.settings)
        settled = max(self._settled, last if final else last - LOOKAHEAD)
        begin = len(self._past)
        end = begin + (settled - self._settled) * hop
        samples = deemphasis(buffer[begin:end], self.audio.preemphasis, self._last_sample)
        if len(samples):
            self._last_sample = float(samples[-1])
        # Frame t ends at sample t * hop - lead + window_length: keep those that end later.
        reach = frames.lead - frames.window_length
        first = max(0, (settled * hop + reach) // hop + 1)
        gone = first - self._first
        kept = frames.transform(buffer[None], slice(gone, count))[0]
        self._past = buffer[gone * hop : end]
        self._magnitude, self._phase = self._magnitude[gone:], kept.angle().numpy()
        self._first, self._settled = first, settled
        return samples.numpy()
