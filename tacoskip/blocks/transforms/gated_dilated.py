import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class GatedDilated(Transform):
    """F(x) = W (tanh(conv3(x)) * sigmoid(conv3(x))), dilated by 1, 2, 4, ... with depth: WaveNet,
    van den Oord et al. 2016.

    cycle: units behind which dilations begin again at 1 (the paper's 10). Departure: three frames
    around the middle instead of two of the past.
    """

    name = "gated_dilated"

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, cycle: int = 10
    ):
        super().__init__()
        self.cycle = cycle
        self.conv = MaskedConv1d(in_channels, 2 * in_channels, kernel_size)
        self.out = nn.Linear(in_channels, out_channels)

    def set_position(self, layer: int, depth: int) -> None:
        super().set_position(layer, depth)
        self.conv.dilation = (2 ** ((layer - 1) % self.cycle),)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        signal, gate = self.conv(x, mask).chunk(2, 2)
        return self.out(torch.tanh(signal) * torch.sigmoid(gate))
