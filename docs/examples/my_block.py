"""A block of one's own: a residual whose transform is gated for each channel and utterance.

    y = ReLU(x + g * F(x)),   g = sigmoid(W mean_t(x) + b)

F is the basic unit of ResNet. Try it with

    PYTHONPATH=docs/examples tacoskip train recipe=fsdd block=my_block:MyFamily
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks import Family, Skip
from tacoskip.blocks.layers import masked_mean


class SqueezeGated(Skip):
    """x + g F(x), one g for each channel and utterance."""

    sees_all = True  # the mean reads every frame

    # An option stands behind `*`: block_options.skip_gate_bias=-1
    def __init__(self, in_channels: int, out_channels: int, *, gate_bias: float = 0.0):
        super().__init__(in_channels, out_channels)
        self.gate = nn.Linear(in_channels, out_channels)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor, transform: nn.Module, mask: Tensor) -> Tensor:
        return x + self.weight(x, mask) * transform(x, mask)

    def weight(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return g of x (B, T, C): (B, 1, C). Padded frames do not count in the mean."""
        return torch.sigmoid(self.gate(masked_mean(x, mask)))[:, None]

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean gate, which the probes draw by depth."""
        return self.weight(x, mask).mean()


MyFamily = Family(
    transform="basic",
    skip=SqueezeGated,
    formula="ReLU(x + g F(x)), g of each channel and utterance",
    source="this example",
)
