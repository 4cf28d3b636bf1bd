"""One unit of a stack: y = after(skip(x, F(x))), zero at padded frames."""

from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.transforms.base import Transform


class Unit(nn.Module):
    """A transform and the skip around it: x (B, T, in), mask (B, T) -> (B, T, out)."""

    def __init__(self, transform: Transform, skip: Skip):
        super().__init__()
        self.transform, self.skip = transform, skip

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.transform.after(self.skip(x, self.transform, mask))
        return y.masked_fill(~mask[:, :, None], 0.0)
