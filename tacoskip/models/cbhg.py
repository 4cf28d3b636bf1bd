"""CBHG: convolution bank, highway layers, bidirectional GRU (Wang et al. 2017, "Tacotron").

The paper (section 3.1, table 1) leaves the order of normalisation and activation open; batch
normalisation stands before the activation, as in Ioffe and Szegedy (2015). Unlike public
implementations, padded frames reach nothing: convolutions see zeros there, batch statistics count
real frames only, the backward GRU starts at each item's last real frame.

Shapes: B batch, T frames, C channels, H hidden channels of the GRU, K width of the bank. `mask` is
bool (B, T), True on real frames.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks import build_block
from tacoskip.blocks.layers import MaskedBatchNorm1d, SameConv1d
from tacoskip.masks import clear_padding
from tacoskip.models.initial import independent_init
from tacoskip.models.settings import CBHGSettings
from tacoskip.precision import at_least_float32, full_precision


class ConvBank(nn.Module):
    """Convolutions of width 1..K side by side, normalised, rectified, max-pooled over two
    neighbouring frames with stride 1.

    x (B, T, in), zero at padded frames, mask (B, T) -> (B, T, K * channels), zero at padded frames.
    """

    def __init__(self, in_channels: int, channels: int, size: int):
        super().__init__()
        self.convs = nn.ModuleList(
            SameConv1d(in_channels, channels, k, bias=False) for k in range(1, size + 1)
        )
        self.norm = MaskedBatchNorm1d(size * channels, relu=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.norm(torch.cat([conv(x) for conv in self.convs], 2), mask)
        # Nothing is negative after the ReLU, so the zeros of padding never win the maximum.
        return torch.maximum(h, functional.pad(h[:, 1:], (0, 0, 0, 1)))


class BiGRU(nn.Module):
    """Bidirectional GRU whose backward direction starts at each item's last real frame.

    x (B, T, in), mask (B, T) -> (B, T, 2 H), zero at padded frames. Equal to a packed sequence,
    without its sorting and its copies to the host.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.ahead = nn.GRU(in_channels, channels, batch_first=True)
        self.back = nn.GRU(in_channels, channels, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)
        mirrored = mask.sum(1, keepdim=True) - 1 - steps
        # Padded frames, where this is negative, stay where they are.
        order = torch.where(mask, mirrored, steps)[:, :, None]
        with full_precision(x):
            x = at_least_float32(x)
            ahead, _ = self.ahead(x)
            back, _ = self.back(x.gather(1, order.expand(-1, -1, x.shape[2])))
            back = back.gather(1, order.expand(-1, -1, back.shape[2]))
        return clear_padding(torch.cat([ahead, back], 2), mask)


class Pointwise(nn.Module):
    """Stands in the GRU's place when it is left out: a linear layer frame by frame."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return clear_padding(self.linear(x), mask)


def orthogonal_pair(channels: int, inner: int) -> tuple[nn.Linear, nn.Linear]:
    """Return linear layers to `inner` channels and back, which start as a semi-orthogonal matrix
    and its transpose: together as near the identity as the widths allow.
    """
    there, back = nn.Linear(channels, inner), nn.Linear(inner, channels)
    nn.init.orthogonal_(there.weight)
    with torch.no_grad():
        back.weight.copy_(there.weight.T)
    for layer in (there, back):
        nn.init.zeros_(layer.bias)
    return there, back


class CBHG(nn.Module):
    """x (B, T, in_channels), mask (B, T) -> (B, T, 2 H), zero at padded frames.

    Data flow::

    x ──┬── bank         for k = 1..K: ReLU(BN(conv_k(x))), side by side; max pool of 2
        │   projection   ReLU(BN(conv_3)), then BN(conv_3) back to the width of x
        └── residual     + x
            widen        a linear layer, where widths differ
            stack        `depth` units of any family of `tacoskip.blocks`; the paper's: highway
            narrow       a linear layer, where the stack has a width of its own
            GRU          both directions, outputs side by side
    """

    def __init__(self, in_channels: int, settings: CBHGSettings):
        super().__init__()
        bank, inner = settings.bank_channels, settings.projection_channels
        channels, around = settings.stack_channels, settings.channels
        self.out_channels = 2 * settings.gru_channels
        self.residual = settings.residual
        # Parts are initialised independently: a change of one leaves the others as they were.
        with independent_init():
            self.bank = ConvBank(in_channels, bank, settings.bank_size) if settings.bank else None
        width = settings.bank_size * bank if settings.bank else in_channels
        with independent_init():
            self.project1 = SameConv1d(width, inner, 3, bias=False)
        self.norm1 = MaskedBatchNorm1d(inner, relu=True)
        self.project2 = SameConv1d(inner, in_channels, 3, bias=False)
        self.norm2 = MaskedBatchNorm1d(in_channels)
        with independent_init():
            same = in_channels == channels
            self.widen: nn.Module = nn.Identity() if same else nn.Linear(in_channels, channels)
        with independent_init():
            self.stack = build_block(
                settings.block or "highway",
                channels,
                settings.depth,
                settings.skip,
                settings.topology,
                **settings.block_options,
            )
            self.narrow: nn.Module = nn.Identity()
            if channels != around:
                there, self.narrow = orthogonal_pair(around, channels)
                self.widen = there if in_channels == around else self.widen
        with independent_init():
            recurrent = BiGRU if settings.gru else Pointwise
            out = settings.gru_channels if settings.gru else self.out_channels
            self.gru = recurrent(around, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = clear_padding(x, mask)
        h = x if self.bank is None else self.bank(x, mask)
        h = self.norm1(self.project1(h), mask)
        h = self.norm2(self.project2(h), mask)
        h = self.widen(x + h if self.residual else h)
        return self.gru(self.narrow(self.stack(h, mask)), mask)
