import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.skips.fixed import NoSkip
from tacoskip.blocks.topologies.base import Make, Mixing


class AttentionResidual(Mixing):
    """h_l = sum_i a_li v_i, a_l = softmax_i(w_l . RMSNorm(v_i)), v_i = F_i(h_i), w from 0:
    attention residuals, Kimi Team 2026.

    A new stack averages all earlier outputs. Departure: RMSNorm has no weights, which w would
    contain.
    """

    name = "attention_residual"
    joins, joins_reason = (NoSkip,), "its attention joins the outputs of its units"

    def __init__(self, channels: int, depth: int, make: Make):
        super().__init__(make.branches(channels, depth))
        self.queries = nn.ParameterList(torch.zeros(channels) for _ in range(depth))

    def mix(self, layer: int, outputs: list[Tensor], mask: Tensor) -> Tensor:
        if layer == 0:
            return outputs[0]
        v = torch.stack(outputs, 2)  # (B, T, L, C)
        keys = functional.rms_norm(v, v.shape[3:], eps=1e-6)
        weights = torch.softmax(keys @ self.queries[layer - 1], 2)
        return torch.einsum("btl,btlc->btc", weights, v)
