"""Highway layers (Srivastava, Greff and Schmidhuber 2015), Tacotron's own stack.

    y = t * H(x) + (1 - t) * x,   H(x) = ReLU(W_h x + b_h),   t = sigmoid(W_t x + b_t)

b_t starts at -1 (Wang et al. 2017 through the highway paper), so that a new stack mostly carries
its input. No departures from the papers. The two products run as one.
"""

import torch
from torch import Tensor, nn


class Highway(nn.Module):
    """One highway layer: x (B, T, C), mask (B, T) -> (B, T, C)."""

    def __init__(self, channels: int, gate_bias: float = -1.0):
        super().__init__()
        self.linear = nn.Linear(channels, 2 * channels)
        with torch.no_grad():
            self.linear.bias[channels:] = gate_bias

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        transform, gate = self.linear(x).chunk(2, dim=-1)
        gate = torch.sigmoid(gate)
        y = x + gate * (torch.relu(transform) - x)
        return y.masked_fill(~mask[:, :, None], 0.0)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mean transform gate over real frames, in (0, 1): how much of the layer is used."""
        gate = torch.sigmoid(self.linear(x).chunk(2, dim=-1)[1])
        return (gate * mask[:, :, None]).sum() / (mask.sum() * gate.shape[-1])
