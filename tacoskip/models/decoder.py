"""Tacotron's decoder: memory to mel frames, R at a time.

    pre-net(last frame) -> attention GRU -> attention -> residual GRUs -> R frames and a stop logit

Only the attention GRU feeds on the context, so under teacher forcing the pre-net and the residual
GRUs run over all steps at once.

Shapes: B batch, S symbols, L decoder steps, R frames a step, M mels, C memory channels, H hidden
channels of the attention GRU, W decoder channels.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.settings import TacotronSettings
from tacoskip.precision import at_least_float32, full_precision

# Decoder steps between two checks of who has stopped: a check waits for the device.
CHECK_EVERY = 8


class PreNet(nn.Module):
    """ReLU layers with dropout, the bottleneck that makes attention necessary: x (..., in) ->
    (..., channels[-1]).
    """

    def __init__(self, in_channels: int, channels: list[int], dropout: float):
        super().__init__()
        widths = [in_channels, *channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)))
        return x


class ResidualGRU(nn.GRU):
    """x + GRU(x): x (B, L, W), state (1, B, W) or None for zeros -> (B, L, W), the last state."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        with full_precision(x):
            x = at_least_float32(x)
            y, state = super().forward(x, state)
            return x + y, state


class Decoder(nn.Module):
    """memory (B, S, C) with mask (B, S) -> mel (B, L * R, M), stop logits (B, L), alignments
    (B, L, S). speaker (B, speaker_channels): no columns for one voice.
    """

    def __init__(
        self, memory_channels: int, n_mels: int, speaker_channels: int, settings: TacotronSettings
    ):
        super().__init__()
        hidden, width = settings.attention_rnn_channels, settings.decoder_channels
        schedule = [r for _, r in settings.reduction_schedule]
        self.n_mels, self.width = n_mels, width
        self.frame_dropout = settings.frame_dropout
        self.max_reduction = max([settings.frames_per_step, *schedule])
        self.prenet = PreNet(
            n_mels + speaker_channels, settings.prenet_channels, settings.prenet_dropout
        )
        self.loop = AttentionLoop(
            settings.prenet_channels[-1],
            memory_channels,
            hidden,
            settings.attention,
            settings.attention_channels,
        )
        self.project_in = nn.Linear(hidden + memory_channels, width)
        self.grus = nn.ModuleList(ResidualGRU(width) for _ in range(2))
        self.frames = nn.Linear(width, self.max_reduction * n_mels)
        self.stop = nn.Linear(width + memory_channels, 1)

    def outputs(
        self, hidden: Tensor, context: Tensor, reduction: int, states: list[Tensor | None]
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Residual GRUs and output layers: hidden (B, L, H), context (B, L, C) -> mel (B, L * R,
        M), stop logits (B, L), states.
        """
        x = self.project_in(torch.cat([hidden, context], 2))
        after = list[Tensor | None]()
        for gru, state in zip(self.grus, states, strict=True):
            x, last = gru(x, state)
            after.append(last)
        mel = self.frames(x)[:, :, : reduction * self.n_mels]
        stop = self.stop(torch.cat([x, context], 2))[:, :, 0]
        return mel.reshape(mel.shape[0], -1, self.n_mels), stop, after

    def forward(
        self, memory: Tensor, mask: Tensor, mel: Tensor, speaker: Tensor, reduction: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing: each step sees the true frame before it, of mel (B, L * R, M)."""
        previous = functional.pad(mel[:, reduction - 1 : -1 : reduction], (0, 0, 1, 0))
        if self.training and self.frame_dropout:
            dropped = torch.rand(previous.shape[:2], device=mel.device) < self.frame_dropout
            previous = previous.masked_fill(dropped[:, :, None], 0.0)
        speakers = speaker[:, None].expand(-1, previous.shape[1], -1)
        prenet = self.prenet(torch.cat([previous, speakers], 2))
        hidden, context, alignments = self.loop(prenet, memory, mask)
        out, stop, _ = self.outputs(hidden, context, reduction, [None] * len(self.grus))
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

        An item stops where its stop logit turns positive. Attention that has rested on the last
        symbol for `rest_steps` in all has read the text and ends it too, where on that symbol the
        stop was likeliest.

        Returns mel (B, L * R, M), stop logits (B, L), alignments (B, L, S), steps (B,), stopped
        (B,).
        """
        ends = StopTracker(max_steps.tolist(), (mask.sum(1) - 1).tolist(), rest_steps)
        state = self.loop.start(memory, mask)
        grus: list[Tensor | None] = [None] * len(self.grus)
        frame = memory.new_zeros(len(memory), self.n_mels)
        mels, stops, alignments = list[Tensor](), list[Tensor](), list[Tensor]()
        while not ends.all_stopped:
            for _ in range(min(CHECK_EVERY, ends.max_steps - len(mels))):
                prenet = self.prenet(torch.cat([frame, speaker], 1))
                state = self.loop.step(prenet, state)
                mel, stop, grus = self.outputs(
                    state.hidden[:, None], state.context[:, None], reduction, grus
                )
                mels.append(mel)
                stops.append(stop[:, 0])
                alignments.append(state.weights)
                frame = mel[:, -1]
            new = slice(ends.steps_taken, None)
            symbols = torch.stack(alignments[new]).argmax(2)
            ends.update(torch.stack(stops[new]).tolist(), symbols.tolist())
        taken = ends.steps_taken
        return (
            torch.cat(mels[:taken], 1),
            torch.stack(stops[:taken], 1),
            torch.stack(alignments[:taken], 1),
            torch.tensor(ends.steps, device=memory.device),
            torch.tensor(ends.stopped, device=memory.device),
        )


class StopTracker:
    """Where each item of a batch ends, see `Decoder.infer`."""

    def __init__(self, limits: list[int], last_symbols: list[int], rest_steps: int):
        count = len(limits)
        self.max_steps, self.steps_taken, self.all_stopped = max(limits), 0, False
        self.limits, self.steps, self.stopped = limits, list(limits), [False] * count
        self.last_symbols, self.rest_steps = last_symbols, rest_steps
        self.rested, self.best_step = [0] * count, [0] * count
        self.best_logit = [-math.inf] * count

    def update(self, logits: list[list[float]], symbols: list[list[int]]) -> None:
        """Take note of steps: stop logits and likeliest symbols of each step and item."""
        for step_logits, step_symbols in zip(logits, symbols, strict=True):
            for item, limit in enumerate(self.limits):
                if not self.stopped[item] and self.steps_taken < limit:
                    self._update_item(item, step_logits[item], step_symbols[item])
            self.steps_taken += 1
            items = zip(self.stopped, self.limits, strict=True)
            if all(stopped or self.steps_taken >= limit for stopped, limit in items):
                self.all_stopped = True
                return

    def _update_item(self, item: int, logit: float, symbol: int) -> None:
        if symbol == self.last_symbols[item]:
            self.rested[item] += 1
            if logit > self.best_logit[item]:
                self.best_logit[item], self.best_step[item] = logit, self.steps_taken + 1
        if logit > 0:
            self.steps[item], self.stopped[item] = self.steps_taken + 1, True
        elif self.rested[item] >= self.rest_steps:
            self.steps[item], self.stopped[item] = self.best_step[item], True
