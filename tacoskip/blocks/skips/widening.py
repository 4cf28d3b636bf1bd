from torch import Tensor
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.skips.base import Skip, TransformCall


class ZeroPad(Skip):
    """[x, 0] + F(x), zeros for a narrower x's channels: ResNet's option A, He et al. 2015.

    Raises ValueError where F(x) is narrower than x.
    """

    name = "zero_pad"

    widens = True

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        if out_channels < in_channels:
            raise ValueError(f"zero_pad cannot narrow, got {in_channels} to {out_channels}")

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        missing = self.out_channels - self.in_channels
        return functional.pad(x, (0, missing)) + transform(x, mask)


class Project(Skip):
    """BN(W x) + F(x) where widths differ, else x + F(x): ResNet's option B, He et al. 2015."""

    name = "project"

    widens = True

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.differs = in_channels != out_channels
        if self.differs:
            self.shortcut = MaskedConv1d(in_channels, out_channels, 1, bias=False)
            self.norm = MaskedBatchNorm1d(out_channels)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        shortcut = self.norm(self.shortcut(x, mask), mask) if self.differs else x
        return shortcut + transform(x, mask)
