"""Base class of skips: how x meets F(x) again."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from tacoskip.blocks.part import Part

TransformCall = Callable[[Tensor, Tensor], Tensor]


class Skip(Part, ABC):
    """Join of x (B, T, in) and F(x) (B, T, out): (B, T, out).

    Constructed with the width of x, the width of F(x), and the options. `forward` calls the
    transform itself, so a skip that does not need F(x) saves its time. The output may hold
    anything at padded frames; the unit zeroes them. Raises ValueError for different widths unless
    the skip `widens`.

    The probes, `sparsity` and `prune` use what a skip declares here:

    widens: joins an x to a wider F(x).
    price: cost of a hard gate in the last training pass, a scalar with a gradient; None: no gate.
    """

    widens: ClassVar[bool] = False
    price: Tensor | None = None

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        if in_channels != out_channels and not self.widens:
            raise ValueError(
                f"{type(self).__name__} joins equal widths, got {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels

    @abstractmethod
    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        """Join x (B, T, in) and transform(x, mask (B, T)): (B, T, out)."""

    @property
    def closed(self) -> bool:
        """Whether the transform never runs in evaluation."""
        return False

    def openness(self, x: Tensor, mask: Tensor) -> Tensor | None:
        """Return the mean gate over real frames, a scalar in [0, 1]; None: the skip has no gate."""
        return None

    def learned_weight(self) -> Tensor | None:
        """Return the learned weight of the unit (1,) or of each channel (C,); None: it has none."""
        return None


def gate_network(channels: int, bias: float) -> nn.Sequential:
    """Return w . ReLU(W x + b) + `bias`, a quarter as wide inside: (..., C) -> (..., 1)."""
    inner = max(1, channels // 4)
    first, last = nn.Linear(channels, inner), nn.Linear(inner, 1)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(first, nn.ReLU(), last)
