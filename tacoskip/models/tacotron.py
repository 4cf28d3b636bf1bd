"""Tacotron (Wang et al. 2017): text in, mel and linear spectrogram out.

    encoder   embedding -> pre-net -> CBHG                                   memory (B, S, 2C)
    decoder   every step: pre-net(last frame) -> attention GRU -> attention -> two residual GRUs ->
    R mel frames post-net  CBHG over the mel frames -> linear spectrogram

Departures: a learnt stop (Tacotron 2) instead of padding to silence; monotonic attentions beside
the paper's own; a speaker embedding (after Deep Voice 2) added to the memory and shown to the
pre-net. In the decoder, only the attention GRU feeds on the context, so under teacher forcing the
pre-net and the residual GRUs run over all steps at once.

B batch, S symbols, T mel frames, R frames a step, M mels, F linear bins, C channels.
"""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import clear_padding, rectified_dropout
from tacoskip.blocks.products import Linear
from tacoskip.blocks.recorded import is_recorded
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import ATTENTIONS, Bahdanau, State, at_least_float32
from tacoskip.models.capture import Plain
from tacoskip.models.cbhg import CBHG
from tacoskip.models.reading import read, read_low, read_step, reader, reads_low
from tacoskip.models.recurrent import gru as run_gru
from tacoskip.models.recurrent import low_gru, runs_low
from tacoskip.models.settings import CBHGSettings, TacotronSettings


@dataclass
class TacotronOutput:
    """What a forward pass or a synthesis gives, in standardised features.

    mel (B, T, M), linear (B, T, F), stop_logits (B, T/R), alignments (B, T/R, S) rounded up to
    whole steps; mel_lengths (B,); stopped (B,) bool: ended by itself, by its stop token or at rest
    on the last symbol (all True under teacher forcing).
    """

    mel: Tensor
    linear: Tensor
    stop_logits: Tensor
    alignments: Tensor
    mel_lengths: Tensor
    stopped: Tensor


class PreNet(nn.Module):
    """Two ReLU layers with dropout, the bottleneck that makes attention necessary: (..., in) ->
    (..., channels[-1]).
    """

    def __init__(self, in_channels: int, channels: list[int], dropout: float):
        super().__init__()
        widths = [in_channels, *channels]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = rectified_dropout(layer(x), self.dropout)
        return x


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


class Decoder(nn.Module):
    """Memory to mel frames, R at a time.

    memory (B, S, memory_channels) with mask (B, S); speaker (B, speaker_channels), with no columns
    for one voice.
    """

    def __init__(
        self, memory_channels: int, n_mels: int, speaker_channels: int, settings: TacotronSettings
    ):
        super().__init__()
        if settings.attention not in ATTENTIONS:
            near = get_close_matches(settings.attention, ATTENTIONS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"unknown attention '{settings.attention}'{hint} (known: {', '.join(ATTENTIONS)})"
            )
        self.n_mels = n_mels
        self.frame_dropout = settings.frame_dropout
        self.loop = Plain()  # how teacher forcing calls its loop
        self.max_reduction = max(
            [settings.frames_per_step, *(r for _, r in settings.reduction_schedule)]
        )
        prenet_out = settings.prenet_channels[-1]
        rnn, width = settings.attention_rnn_channels, settings.decoder_channels
        self.prenet = PreNet(
            n_mels + speaker_channels, settings.prenet_channels, settings.prenet_dropout
        )
        self.attention_rnn = nn.GRUCell(prenet_out + memory_channels, rnn)
        self.attention = ATTENTIONS[settings.attention](
            rnn, memory_channels, settings.attention_channels
        )
        self.project_in = Linear(rnn + memory_channels, width)
        self.grus = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.frames = Linear(width, self.max_reduction * n_mels)
        self.stop = Linear(width + memory_channels, 1)

    def attend(
        self,
        prenet: Tensor,
        hidden: Tensor,
        context: Tensor,
        memory: Tensor,
        keys: Tensor,
        mask: Tensor,
        state: State,
    ) -> tuple[Tensor, Tensor, State]:
        """One step of the attention GRU, see `read_step`."""
        cell, attention = self.attention_rnn, self.attention
        return read_step(prenet, hidden, context, memory, keys, mask, state, cell, attention)

    def expand(
        self, hidden: Tensor, context: Tensor, reduction: int, states: list[Tensor | None]
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Residual GRUs and outputs: hidden (B, L, A), context (B, L, C) -> mel (B, L*R, M), stop
        (B, L), states.
        """
        x = self.project_in(torch.cat([hidden, context], 2))
        after: list[Tensor | None] = []
        plain = x.is_cuda or is_recorded()
        for layer, state in zip(self.grus, states, strict=True):
            gru = cast(nn.GRU, layer)
            last: Tensor | None = None
            if x.shape[1] == 1 and not plain:
                before = torch.zeros_like(x) if state is None else state.transpose(0, 1)
                y = torch.gru_cell(x[:, 0], before[:, 0], *gru.parameters())[:, None]
                last = y.transpose(0, 1)
            elif self.training and state is None and runs_low(x, [gru]):
                every = torch.full((len(x),), x.shape[1])
                y = low_gru(x, every, [gru])
            elif self.training and state is None and not plain:
                y = run_gru(x.transpose(0, 1)[None], [gru])[0].transpose(0, 1)
            else:
                y, last = gru(x, state)
            x = x + y
            after.append(last)
        batch, steps, _ = x.shape
        mel = self.frames(x)[:, :, : reduction * self.n_mels]
        stop = self.stop(torch.cat([x, context], 2))[:, :, 0]
        return mel.reshape(batch, steps * reduction, self.n_mels), stop, after

    def start(self, memory: Tensor) -> tuple[Tensor, Tensor, Tensor, State]:
        """Hidden (B, A) and context (B, C) of zeros, keys, and the attention's first state."""
        keys = self.attention.keys(memory)
        hidden = memory.new_zeros(memory.shape[0], self.attention_rnn.hidden_size)
        return (
            hidden,
            memory.new_zeros(memory.shape[0], memory.shape[2]),
            keys,
            self.attention.start(keys),
        )

    def forward(
        self, memory: Tensor, mask: Tensor, mel: Tensor, speaker: Tensor, reduction: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing: mel (B, L*R, M) -> mel (B, L*R, M), stop_logits (B, L), alignments (B,
        L, S).
        """
        last_frames = functional.pad(mel[:, reduction - 1 : -1 : reduction], (0, 0, 1, 0))
        if self.training and self.frame_dropout:
            hidden_frames = (
                torch.rand(last_frames.shape[:2], device=mel.device) < self.frame_dropout
            )
            last_frames = last_frames.masked_fill(hidden_frames[:, :, None], 0.0)
        shown = speaker[:, None].expand(-1, last_frames.shape[1], -1)
        prenet = self.prenet(torch.cat([last_frames, shown], 2))
        if self.loop.multiple == 1 and reads_low(memory, self.attention_rnn, self.attention):
            attention = cast(Bahdanau, self.attention)
            found = read_low(prenet, memory, mask, self.attention_rnn, attention)
            hidden, context, alignments = found
            out, stop, _ = self.expand(hidden, context, reduction, [None, None])
            return out, stop, alignments
        # The loop is many small products, where reduced precision costs more in casts than it
        # saves.
        with torch.autocast(memory.device.type, enabled=False):
            prenet, memory = at_least_float32(prenet), at_least_float32(memory)
            hidden, context, alignments = read(
                prenet, memory, mask, self.attention_rnn, self.attention, self.loop
            )
        out, stop, _ = self.expand(hidden, context, reduction, [None, None])
        return out, stop, alignments

    def infer(
        self,
        memory: Tensor,
        mask: Tensor,
        speaker: Tensor,
        reduction: int,
        max_steps: Tensor,
        rest_steps: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Free running until every item has stopped or reached its `max_steps` (B,).

        An item stops where its stop logit turns positive. Attention that has lain on the last
        symbol for `rest_steps` in all has read the text and ends it too, where on that symbol the
        stop was likeliest.

        Returns mel (B, L*R, M), stop_logits (B, L), alignments (B, L, S), steps (B,), stopped (B,).
        """
        read_on = reader(memory, mask, self.attention_rnn, self.attention)
        frame = memory.new_zeros(memory.shape[0], self.n_mels)
        states: list[Tensor | None] = [None, None]
        ends = _Ends(max_steps.tolist(), (mask.sum(1) - 1).tolist(), rest_steps)
        mels, stops, alignments = list[Tensor](), list[Tensor](), list[Tensor]()
        while not ends.all:
            for _ in range(min(LOOK, ends.most - len(mels))):
                prenet = self.prenet(torch.cat([frame, speaker], 1))
                hidden, context, weights = read_on(prenet)
                mel, stop, states = self.expand(
                    hidden[:, None], context[:, None], reduction, states
                )
                mels.append(mel)
                stops.append(stop[:, 0])
                alignments.append(weights)
                frame = mel[:, -1]
            new = slice(ends.taken, None)
            places = torch.stack(alignments[new]).argmax(2)
            ends.look(torch.stack(stops[new]).tolist(), places.tolist())
        taken = ends.taken
        return (
            torch.cat(mels[:taken], 1),
            torch.stack(stops[:taken], 1),
            torch.stack(alignments[:taken], 1),
            torch.tensor(ends.steps, device=memory.device),
            torch.tensor(ends.stopped, device=memory.device),
        )


# Decoder steps between two looks at who has stopped: a look waits for the device.
LOOK = 8


class _Ends:
    """Where each item of a batch ends, see `Decoder.infer`."""

    def __init__(self, max_steps: list[int], last: list[int], rest_steps: int):
        self.most, self.taken, self.all = max(max_steps), 0, False
        self.limits, self.steps, self.stopped = max_steps, list(max_steps), [False] * len(last)
        self.last, self.rest_steps = last, rest_steps
        self.rested, self.likeliest = [0] * len(last), [0] * len(last)
        self.nearest = [-math.inf] * len(last)

    def look(self, stops: list[list[float]], places: list[list[int]]) -> None:
        """Go on by steps: stop logits and the likeliest symbols, of each step and item."""
        for stop, place in zip(stops, places, strict=True):
            for item, limit in enumerate(self.limits):
                if not self.stopped[item] and self.taken < limit:
                    self._item(item, stop[item], place[item])
            self.taken += 1
            over = zip(self.stopped, self.limits, strict=True)
            if all(stopped or self.taken >= limit for stopped, limit in over):
                self.all = True
                return

    def _item(self, item: int, stop: float, place: int) -> None:
        if place == self.last[item]:
            self.rested[item] += 1
            if stop > self.nearest[item]:
                self.nearest[item], self.likeliest[item] = stop, self.taken + 1
        if stop > 0:
            self.steps[item], self.stopped[item] = self.taken + 1, True
        elif self.rested[item] >= self.rest_steps:
            self.steps[item], self.stopped[item] = self.likeliest[item], True


class Tacotron(nn.Module):
    """The whole network. Features in and out are standardised by the statistics that travel with
    the weights.

    n_speakers 1 builds no speaker embedding. `reduction` is the current R; it travels with the
    weights too.
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
        self.speakers = nn.Embedding(n_speakers, channels)
        self.speaker_memory = Linear(channels, memory_channels) if channels else None
        self.decoder = Decoder(memory_channels, n_mels, channels, settings)
        self.postnet = CBHG(n_mels, postnet)
        self.linear = Linear(self.postnet.out_channels, n_bins)
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))
        self.register_buffer("linear_mean", torch.zeros(n_bins))
        self.register_buffer("linear_std", torch.ones(n_bins))
        self.register_buffer("reduction_buffer", torch.tensor(settings.frames_per_step))

    def example(self, symbols: int = 40, frames: int = 200) -> tuple[Tensor, ...]:
        """Inputs of `forward` for one sentence of zeros, to count on."""
        one = torch.ones(1, dtype=torch.long, device=self.mel_mean.device)
        return (
            one.new_zeros(1, symbols),
            one * symbols,
            self.mel_mean.new_zeros(1, frames, len(self.mel_mean)),
            one * frames,
            one * 0,
        )

    @property
    def reduction(self) -> int:
        return int(self.reduction_buffer)

    @reduction.setter
    def reduction(self, frames: int) -> None:
        self.reduction_buffer.fill_(frames)

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

    def _memory(self, symbols: Tensor, mask: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(symbols, mask)
        speaker = self.speakers(speakers)
        if self.speaker_memory is not None:
            memory = memory + torch.tanh(self.speaker_memory(speaker))[:, None]
        return memory.masked_fill(~mask[:, :, None], 0.0), speaker

    def _spectrogram(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mel = mel.masked_fill(~mask[:, :, None], 0.0)
        return mel, clear_padding(self.linear(self.postnet(mel, mask)), mask)

    def forward(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        mel: Tensor,
        mel_lengths: Tensor,
        speakers: Tensor,
    ) -> TacotronOutput:
        """Teacher forcing: standardised mel (B, T, M) shows the decoder the true last frame of each
        step.

        T need not be a multiple of R; the outputs have mel's T. Padded input frames may hold
        anything.
        """
        symbol_mask = lengths_to_mask(symbol_lengths, symbols.shape[1])
        mel_mask = lengths_to_mask(mel_lengths, mel.shape[1])
        memory, speaker = self._memory(symbols, symbol_mask, speakers)
        reduction, frames = self.reduction, mel.shape[1]
        shown = functional.pad(
            mel.masked_fill(~mel_mask[:, :, None], 0.0), (0, 0, 0, -frames % reduction)
        )
        out, stop_logits, alignments = self.decoder(memory, symbol_mask, shown, speaker, reduction)
        out, linear = self._spectrogram(out[:, :frames], mel_mask)
        stopped = torch.ones_like(mel_lengths, dtype=torch.bool)
        return TacotronOutput(out, linear, stop_logits, alignments, mel_lengths, stopped)

    @torch.no_grad()
    def infer(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        speakers: Tensor,
        max_frames: Tensor,
        rest_frames: int,
    ) -> TacotronOutput:
        """Speak: symbols (B, S), symbol_lengths (B,), speakers (B,), max_frames (B,) the most
        frames of each item, rest_frames those on the last symbol that end an item whose stop token
        failed.
        """
        mask = lengths_to_mask(symbol_lengths, symbols.shape[1])
        memory, speaker = self._memory(symbols, mask, speakers)
        reduction = self.reduction
        max_steps = torch.div(max_frames + reduction - 1, reduction, rounding_mode="floor").clamp(
            min=1
        )
        mel, stop_logits, alignments, steps, stopped = self.decoder.infer(
            memory, mask, speaker, reduction, max_steps, -(-rest_frames // reduction)
        )
        mel, linear = self._spectrogram(mel, lengths_to_mask(steps * reduction, mel.shape[1]))
        return TacotronOutput(mel, linear, stop_logits, alignments, steps * reduction, stopped)
