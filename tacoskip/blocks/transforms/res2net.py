import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d, masked_mean
from tacoskip.blocks.transforms.base import Transform, inner_width


class Layer(nn.Module):
    """BN(ReLU(conv(x)))."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.conv = MaskedConv1d(in_channels, out_channels, kernel_size)
        self.norm = MaskedBatchNorm1d(out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x, mask)), mask)


class Res2Net(Transform):
    """F(x) = s * L1([h_1, ..., h_8]), h_1 = u_1, h_i = L3(u_i + h_(i-1)), u = L1(x), L = BN ReLU
    conv: ECAPA-TDNN, Desplanques et al. 2020.

    u_i are `scale` groups of channels, h_2 reads u_2 alone; s = sigmoid(W2 ReLU(W1 mean_t)) is
    squeeze-and-excitation. L3 is dilated by 2, 3 and 4 in turn with depth. Departures: the inner
    width is rounded up to a multiple of `scale`; the squeeze is to a quarter.
    """

    name = "res2net"
    sees_all = True

    def __init__(self, in_channels: int, out_channels: int, *, scale: int = 8):
        super().__init__()
        inner = inner_width(out_channels, 1, scale)
        part = inner // scale
        self.first = Layer(in_channels, inner, 1)
        self.inner = nn.ModuleList(Layer(part, part, 3) for _ in range(scale - 1))
        self.last = Layer(inner, out_channels, 1)
        self.squeeze = nn.Linear(out_channels, max(1, out_channels // 4))
        self.excite = nn.Linear(max(1, out_channels // 4), out_channels)

    def set_position(self, layer: int, depth: int) -> None:
        super().set_position(layer, depth)
        for one in self.inner:
            one.conv.dilation = (2 + (layer - 1) % 3,)  # type: ignore[union-attr]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        head, *parts = self.first(x, mask).chunk(len(self.inner) + 1, 2)
        outputs, h = [head], torch.zeros_like(head)
        for layer, u in zip(self.inner, parts, strict=True):
            h = layer(u + h, mask)
            outputs.append(h)
        y = self.last(torch.cat(outputs, 2), mask)
        s = torch.sigmoid(self.excite(torch.relu(self.squeeze(masked_mean(y, mask)))))
        return y * s[:, None]
