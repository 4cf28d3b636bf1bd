"""Griffin-Lim on a stream: frames go in by chunks, samples come out, and the joins do not click.

A frame is settled once `LOOKAHEAD` frames beyond it are known, and a sample once all frames that
reach it are. Each chunk runs Griffin-Lim on the frames that are not settled: the phases of those
that wait begin where the last chunk left them, the new frames' are integrated onwards from there,
and the windowed sum of the settled ones stays. T frames, F bins.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio.emphasis import deemphasis
from tacoskip.audio.frames import Frames
from tacoskip.audio.inversion import check_magnitudes, project, sharpen, starting_phase
from tacoskip.audio.phase import integrate_phase
from tacoskip.audio.settings import AudioSettings, GriffinLimSettings

# With half a window, the last 100 ms of what is known wait, at Tacotron's hop of 12.5 ms.
LOOKAHEAD = 6


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
        self._first = 0  # the first frame that is not settled; frames from it on are held
        self._magnitude = torch.zeros(0, self._frames.n_bins)
        self._phase = np.zeros((0, self._frames.n_bins), np.float32)
        # What settled frames leave in the buffer: the sum of their samples, and of their windows.
        rest = (self._frames.overlap - 1) * self.audio.hop_length
        self._sum, self._weight = torch.zeros(rest), torch.zeros(rest)

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
        known = len(self._phase)
        phase = starting_phase(self.settings, tuple(new.shape), self._noise)
        self._phase = np.concatenate([self._phase, phase])
        if self.settings.phase == "pghi":
            self._loudest = max(self._loudest, float(new.max()))
            shape = self._frames.shape
            integrate_phase(self._magnitude.numpy(), self._phase, *shape, known, self._loudest)
        return self._settle(final=False)

    def flush(self) -> NDArray[np.float32]:
        """Return the samples still held back. A `push` after it begins a new utterance."""
        samples = self._settle(final=True) if len(self._magnitude) else np.zeros(0, np.float32)
        self._begin()
        return samples

    def _settle(self, final: bool) -> NDArray[np.float32]:
        """Run Griffin-Lim on the frames held, settle some, give out the samples they complete."""
        frames, hop = self._frames, self.audio.hop_length
        count = len(self._magnitude)
        settled = count if final else count - LOOKAHEAD
        if settled <= 0:
            return np.zeros(0, np.float32)
        start = self._first * hop - frames.lead  # the wave's sample that the buffer begins with
        centre = (count - 1) * hop + frames.lead  # the buffer's sample at the last frame's centre
        envelope = frames.envelope(count)
        envelope[: len(self._weight)] += self._weight
        fixed = torch.zeros_like(envelope)
        fixed[: len(self._sum)] = self._sum
        scale = envelope.clamp_min(1e-8).reciprocal()
        # Beyond the last centre the utterance ends, or frames are missing and the wave fades out.
        scale[centre:] = 0 if final else 1 / envelope.max()
        scale[: max(0, -start)] = 0  # before the utterance there is silence
        phase = torch.from_numpy(self._phase)
        iterations = self.settings.iterations
        buffer = project(self._magnitude, phase, frames, scale, fixed, iterations)
        phase = frames.transform(buffer, slice(0, count)).angle()
        spectrum = torch.polar(self._magnitude[:settled], phase[:settled])
        frames.overlap_add(fixed, spectrum, slice(0, settled))
        weight = torch.zeros_like(fixed)
        size = frames.buffer_length(settled)
        weight[:size] = frames.envelope(settled)
        weight[: len(self._weight)] += self._weight
        done = settled * hop
        self._sum, self._weight = (x[done : done + len(self._sum)].clone() for x in (fixed, weight))
        self._magnitude, self._phase = self._magnitude[settled:], phase[settled:].numpy()
        self._first += settled
        given = slice(max(0, -start), centre if final else done)
        wave = fixed[given] / weight[given].clamp_min(1e-8)
        samples = deemphasis(wave, self.audio.preemphasis, self._last_sample)
        if len(samples):
            self._last_sample = float(samples[-1])
        return samples.numpy()
