"""Convolutions over time without copies into another order: channels stay innermost.

Shapes: B batch, T frames, C channels, O output channels.
"""

from torch import Tensor
from torch.nn import functional

from tacoskip.blocks.layers import MaskedConv1d, SameConv1d
from tacoskip.masks import clear_padding


class ChannelsLastConv1d(SameConv1d):
    """SameConv1d as a convolution of images one row high, in place of conv1d and its copies."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.context
        if left != right:
            x = functional.pad(x, (0, 0, left, right))
        image = x.contiguous()[:, None].permute(0, 3, 1, 2)  # (B, T, C) -> (B, C, 1, T)
        weight = self.weight[:, :, None]
        padding, dilation = (0, left if left == right else 0), (1, self.dilation[0])
        out = functional.conv2d(image, weight, self.bias, 1, padding, dilation, self.groups)
        # Not out[:, :, 0], whose gradient is a copy in another order.
        return out.squeeze(2).transpose(1, 2)  # (B, O, 1, T) -> (B, T, O)


class ChannelsLastMaskedConv1d(MaskedConv1d):
    """MaskedConv1d without copies into another order."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return ChannelsLastConv1d.forward(self, clear_padding(x, mask))  # type: ignore[arg-type]
