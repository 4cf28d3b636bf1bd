"""Shortcuts between different widths (He et al. 2015, options A and B).

    zero_pad  y = [x, 0] + F(x)        the missing channels of the shortcut are zeros
    project   y = BN(W x) + F(x)       a 1x1 convolution brings the shortcut to width

Where widths are equal both are x + F(x), as in the paper.
"""

from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.skips.base import Skip, Transforming


class ZeroPad(Skip):
    """[x, 0] + F(x). Raises ValueError where F(x) is narrower than x."""

    def __init__(self, in_channels: int, out_channels: int):
        nn.Module.__init__(self)
        if out_channels < in_channels:
            raise ValueError(f"zero_pad cannot narrow, got {in_channels} to {out_channels}")
        self.missing = out_channels - in_channels

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        return functional.pad(x, (0, self.missing)) + transform(x, mask)


class Project(Skip):
    """BN(W x) + F(x) where widths differ, else x + F(x)."""

    def __init__(self, in_channels: int, out_channels: int):
        nn.Module.__init__(self)
        self.differs = in_channels != out_channels
        if self.differs:
            self.shortcut = MaskedConv1d(in_channels, out_channels, 1, bias=False)
            self.norm = MaskedBatchNorm1d(out_channels)

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        shortcut = self.norm(self.shortcut(x, mask), mask) if self.differs else x
        return shortcut + transform(x, mask)
