"""Tacotron (Wang et al. 2017): text in, mel and linear spectrogram out.

With `tts.attention=durations` the decoder is `models.durations`' instead: no frame is fed back.

Departures: a learned stop (Tacotron 2) instead of padding to silence; monotonic attentions beside
the paper's own; a speaker embedding (after Deep Voice 2) added to the memory and given to the
decoder's pre-net.

Shapes: B batch, S symbols, T mel frames, R frames a decoder step, L = T / R decoder steps, M mels,
F linear bins, C memory channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.masks import clear_padding, lengths_to_mask, subsampled
from tacoskip.models.cbhg import CBHG
from tacoskip.models.decoder import Decoder, PreNet
from tacoskip.models.durations import (
    DURATIONS,
    DurationDecoder,
    synthesis_weights,
    upsampling_weights,
)
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.precision import full_precision


@dataclass
class TacotronOutput:
    """Outputs of a forward pass or of a synthesis, in standardised features.

    mel (B, T, M), zero at padded frames; linear (B, T, F), of any value there; stop_logits (B, L),
    alignments (B, L, S), L rounded up; mel_lengths (B,); stopped (B,) bool: ended by itself, by its
    stop token or at rest on the last symbol (all True under teacher forcing). log_durations (B, S):
    log(1 + frames) of each symbol as predicted, where durations drive the decoder; stop_logits is
    (B, 0) then.
    """

    mel: Tensor
    linear: Tensor
    stop_logits: Tensor
    alignments: Tensor
    mel_lengths: Tensor
    stopped: Tensor
    log_durations: Tensor | None = None


class Encoder(nn.Module):
    """symbols (B, S), mask (B, S) -> memory (B, S, 2 * gru_channels)."""

    def __init__(self, n_symbols: int, settings: TacotronSettings, cbhg: CBHGSettings):
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, settings.embedding_channels, padding_idx=0)
        self.prenet = PreNet(
            settings.embedding_channels, settings.prenet_channels, settings.prenet_dropout
        )
        self.cbhg = CBHG(settings.prenet_channels[-1], cbhg)
        self.out_channels = self.cbhg.out_channels

    def forward(self, symbols: Tensor, mask: Tensor) -> Tensor:
        return self.cbhg(self.prenet(self.embedding(symbols)), mask)


class Tacotron(nn.Module):
    """The whole network, on standardised features.

    Data flow::

        symbols (B, S) ── embedding ── pre-net ── CBHG ── memory (B, S, C)
                                                             │
        mel (B, T, M) ── last frame of each step ── pre-net ── attention GRU ── residual GRUs
                                                             │
        linear (B, T, F) ── linear layer ── CBHG ── mel (B, T, M), R frames a step

    n_speakers 1 builds no speaker embedding. The features' statistics and the current R
    (`reduction`) travel with the weights.
    """

    mel_mean: Tensor
    mel_std: Tensor
    linear_mean: Tensor
    linear_std: Tensor
    reduction_buffer: Tensor

    def __init__(
        self,
        n_symbols: int,
        n_mels: int,
        n_bins: int,
        n_speakers: int,
        settings: TacotronSettings,
        cbhg: CBHGSettings,
        postnet: CBHGSettings,
    ):
        super().__init__()
        self.encoder = Encoder(n_symbols, settings, cbhg)
        memory_channels = self.encoder.out_channels
        channels = settings.speaker_channels if n_speakers > 1 else 0
        self.n_speakers = n_speakers
        self.speakers = nn.Embedding(n_speakers, channels) if channels else None
        self.speaker_memory = nn.Linear(channels, memory_channels) if channels else None
        self.decoder: Decoder | DurationDecoder
        if settings.attention == DURATIONS:
            self.decoder = DurationDecoder(memory_channels, n_mels, settings, cbhg)
        else:
            self.decoder = Decoder(memory_channels, n_mels, channels, settings)
        self.postnet = CBHG(n_mels, postnet)
        self.linear = nn.Linear(self.postnet.out_channels, n_bins)
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))
        self.register_buffer("linear_mean", torch.zeros(n_bins))
        self.register_buffer("linear_std", torch.ones(n_bins))
        # The number beside the buffer saves a copy from the device in every step.
        self._reduction = settings.frames_per_step
        self.register_buffer("reduction_buffer", torch.tensor(self._reduction))
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            Tacotron._load_reduction
        )

    def example(self, symbols: int = 40, frames: int = 200) -> tuple[Tensor, ...]:
        """Inputs of `forward` for one sentence of zeros."""
        one = torch.ones(1, dtype=torch.long, device=self.mel_mean.device)
        inputs = (
            one.new_zeros(1, symbols),
            one * symbols,
            self.mel_mean.new_zeros(1, frames, len(self.mel_mean)),
            one * frames,
            one * 0,
        )
        if not isinstance(self.decoder, DurationDecoder):
            return inputs
        ends = torch.arange(symbols + 1, device=one.device) * frames // symbols
        return (*inputs, ends.diff()[None])

    @property
    def reduction(self) -> int:
        """Frames a decoder step, R."""
        return self._reduction

    @reduction.setter
    def reduction(self, frames: int) -> None:
        self._reduction = frames
        self.reduction_buffer.fill_(frames)

    def _load_reduction(self, *_: object) -> None:
        self._reduction = int(self.reduction_buffer)

    def set_statistics(
        self, mel_mean: Tensor, mel_std: Tensor, linear_mean: Tensor, linear_std: Tensor
    ) -> None:
        """Take the corpus' feature statistics: (M,), (M,), (F,), (F,)."""
        self.mel_mean.copy_(mel_mean)
        self.linear_mean.copy_(linear_mean)
        # A band that never changes, beyond the recording's bandwidth say, must not become noise.
        self.mel_std.copy_(mel_std.clamp(min=1e-3))
        self.linear_std.copy_(linear_std.clamp(min=1e-3))

    def standardize(self, mel: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Log features to the model's space: mel (B, T, M), linear (B, T, F)."""
        return (mel - self.mel_mean) / self.mel_std, (linear - self.linear_mean) / self.linear_std

    def restore(self, mel: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `standardize`."""
        return mel * self.mel_std + self.mel_mean, linear * self.linear_std + self.linear_mean

    def encode(self, symbols: Tensor, mask: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(symbols, mask)
        speaker = memory.new_zeros(len(memory), 0)
        if self.speakers is not None and self.speaker_memory is not None:
            speaker = self.speakers(speakers)
            memory = memory + torch.tanh(self.speaker_memory(speaker))[:, None]
        return clear_padding(memory, mask), speaker

    def spectrogram(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mel = clear_padding(mel, mask)
        return mel, self.linear(self.postnet(mel, mask))

    def forward(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        mel: Tensor,
        mel_lengths: Tensor,
        speakers: Tensor,
        durations: Tensor | None = None,
    ) -> TacotronOutput:
        """Teacher forcing with standardised mel (B, T, M), whose padded frames may hold anything.

        T need not be a multiple of R; the outputs have mel's T. durations (B, S): the frames of
        each symbol, where they drive the decoder.
        """
        symbol_mask = lengths_to_mask(symbol_lengths, symbols.shape[1])
        mel_mask = lengths_to_mask(mel_lengths, mel.shape[1])
        memory, speaker = self.encode(symbols, symbol_mask, speakers)
        reduction, frames, log_durations = self.reduction, mel.shape[1], None
        if isinstance(self.decoder, DurationDecoder):
            if durations is None:
                raise ValueError("expected the durations of the symbols, got none")
            log_durations = self.decoder.predictor(memory, symbol_mask)
            alignments = upsampling_weights(durations, -(-frames // reduction), reduction)
            out = self.decoder(memory, alignments, mel_lengths, reduction)
            stop_logits = out.new_zeros(len(out), 0)
        else:
            mel = clear_padding(mel, mel_mask)
            mel = functional.pad(mel, (0, 0, 0, -frames % reduction))
            out, stop_logits, alignments = self.decoder(
                memory, symbol_mask, mel, speaker, reduction
            )
        out, linear = self.spectrogram(out[:, :frames], mel_mask)
        stopped = torch.ones_like(mel_lengths, dtype=torch.bool)
        return TacotronOutput(
            out, linear, stop_logits, alignments, mel_lengths, stopped, log_durations
        )

    @torch.no_grad()
    def infer(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        speakers: Tensor,
        max_frames: Tensor,
        rest_frames: int,
    ) -> TacotronOutput:
        """Synthesize: symbols (B, S), symbol_lengths (B,), speakers (B,), max_frames (B,) the most
        frames of each item, rest_frames those on the last symbol that end an item whose stop token
        failed.
        """
        with full_precision(symbols):
            mask = lengths_to_mask(symbol_lengths, symbols.shape[1])
            memory, speaker = self.encode(symbols, mask, speakers)
            reduction = self.reduction
            if isinstance(self.decoder, DurationDecoder):
                predicted = self.decoder.predictor(memory, mask)
                alignments, lengths, stopped = synthesis_weights(
                    predicted, mask, max_frames, reduction
                )
                frames = int(lengths.max())
                mel = self.decoder(memory, alignments, lengths, reduction)[:, :frames]
                mel, linear = self.spectrogram(mel, lengths_to_mask(lengths, frames))
                stops = mel.new_zeros(len(mel), 0)
                return TacotronOutput(mel, linear, stops, alignments, lengths, stopped, predicted)
            max_steps = subsampled(max_frames, reduction).clamp(min=1)
            mel, stop_logits, alignments, steps, stopped = self.decoder.infer(
                memory, mask, speaker, reduction, max_steps, -(-rest_frames // reduction)
            )
            mel, linear = self.spectrogram(mel, lengths_to_mask(steps * reduction, mel.shape[1]))
            return TacotronOutput(mel, linear, stop_logits, alignments, steps * reduction, stopped)
