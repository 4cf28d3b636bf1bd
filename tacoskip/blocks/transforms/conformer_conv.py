from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class ConformerConv(Transform):
    """F(x) = dropout(W2 Swish(BN(depthwise31(GLU(W1 LayerNorm(x)))))): Conformer, Gulati et al.
    2020.

    Departure: kernel 31 as in the authors' released settings (the paper's best, 32, is even).
    """

    name = "conformer_conv"

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 31, dropout: float = 0.0
    ):
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.gate = nn.Linear(in_channels, 2 * in_channels)
        self.conv = MaskedConv1d(
            in_channels, in_channels, kernel_size, bias=False, groups=in_channels
        )
        self.norm2 = MaskedBatchNorm1d(in_channels)
        self.out = nn.Linear(in_channels, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = functional.glu(self.gate(self.norm(x)), dim=2)
        h = functional.silu(self.norm2(self.conv(h, mask), mask))
        return self.dropout(self.out(h))
