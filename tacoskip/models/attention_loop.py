"""The recurrent half of an attention decoder: a GRU cell and the attention it steers.

    h_i = GRU([x_i, c_{i-1}], h_{i-1})       a_i = attention(h_i, memory)       c_i = a_i memory

The voice's decoder and the recogniser's speller share it. Teacher forcing (`forward`) and free
running (`start`, then `step` after `step`) take the same steps.

B batch, L steps, S symbols, P input channels, C memory channels, H hidden channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacoskip.messages import known
from tacoskip.models.attention import ATTENTIONS, State
from tacoskip.precision import at_least_float32, full_precision


class LoopState(NamedTuple):
    """Before or after a step: memory (B, S, C) with mask (B, S) and keys, which stay; hidden
    (B, H), context (B, C) and the attention's own state, which do not.
    """

    memory: Tensor
    mask: Tensor
    keys: Tensor
    hidden: Tensor
    context: Tensor
    attention: State

    @property
    def weights(self) -> Tensor:
        """Attention weights (B, S) of the step."""
        return self.attention[0]


class AttentionLoop(nn.Module):
    """inputs (B, L, P), memory (B, S, C), mask (B, S) -> hidden (B, L, H), context (B, L, C),
    weights (B, L, S), all float32 at least.
    """

    def __init__(
        self,
        in_channels: int,
        memory_channels: int,
        channels: int,
        attention: str,
        attention_channels: int,
    ):
        super().__init__()
        self.cell = nn.GRUCell(in_channels + memory_channels, channels)
        build = ATTENTIONS[known("attention", attention, ATTENTIONS)]
        self.attention = build(channels, memory_channels, attention_channels)

    def start(self, memory: Tensor, mask: Tensor) -> LoopState:
        """Return the state before the first step: zeros, and the attention's start."""
        batch, _, channels = memory.shape
        keys = self.attention.keys(memory)
        hidden = memory.new_zeros(batch, self.cell.hidden_size)
        context = memory.new_zeros(batch, channels)
        return LoopState(memory, mask, keys, hidden, context, self.attention.start(keys))

    def step(self, x: Tensor, state: LoopState) -> LoopState:
        """Take one step: x (B, P)."""
        hidden = self.cell(torch.cat([x, state.context], 1), state.hidden)
        weights, attention = self.attention(hidden, state.keys, state.mask, state.attention)
        context = torch.bmm(weights[:, None], state.memory)[:, 0]
        return state._replace(hidden=hidden, context=context, attention=attention)

    def forward(
        self, inputs: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(memory):
            states = [self.start(at_least_float32(memory), mask)]
            for x in at_least_float32(inputs).unbind(1):
                states.append(self.step(x, states[-1]))
            hidden = torch.stack([state.hidden for state in states[1:]], 1)
            context = torch.stack([state.context for state in states[1:]], 1)
            weights = torch.stack([state.weights for state in states[1:]], 1)
        return hidden, context, weights
