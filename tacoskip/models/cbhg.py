"""CBHG: convolution bank, highway layers, bidirectional GRU (Wang et al. 2017, "Tacotron", section
3.1, table 1).

    bank       for k = 1..K: ReLU(BN(conv_k(x))), stacked over channels pool       maximum over two
    neighbouring frames, stride 1 projection ReLU(BN(conv_3)), then BN(conv_3) back to the input's
    width residual   + x highway    a stack of `depth` units (any family of `tacoskip.blocks`),
    after a linear layer where widths differ GRU        both directions, outputs side by side

The paper leaves the order of normalisation and activation open; batch normalisation stands before
the activation, as in Ioffe and Szegedy (2015). Unlike public implementations, padded frames reach
nothing: convolutions see zeros there, batch statistics count real frames only, the backward GRU
starts at each item's last real frame.

B batch, T frames, C channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks import build_block
from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.products import Linear, convolve
from tacoskip.models.initial import own_draws
from tacoskip.models.recurrent import gru, low_gru, runs_here, runs_low
from tacoskip.models.settings import CBHGSettings


class ConvBank(nn.Module):
    """Convolutions of width 1..K, normalised, rectified and max-pooled: x (B, T, in), mask (B, T)
    -> (B, T, K * channels).
    """

    def __init__(self, in_channels: int, channels: int, size: int):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(in_channels, channels, k, bias=False) for k in range(1, size + 1)
        )
        self.norm = MaskedBatchNorm1d(size * channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        size = len(self.convs)
        # Every kernel reads its own window of one padded copy: width k looks (k-1)//2 back and k//2
        # ahead.
        left, right = (size - 1) // 2, size // 2
        padded = functional.pad(x.masked_fill(~mask[:, :, None], 0.0), (0, 0, left, right))
        length = padded.shape[1]
        outputs = [
            convolve(padded[:, left - k // 2 : length - (right - (k + 1) // 2)], weight)
            for k, weight in enumerate(
                self.convs.parameters()
            )  # k from 0: the kernel is k + 1 wide
        ]
        return self.norm(outputs, mask, pool=True)


class BiGRU(nn.Module):
    """Bidirectional GRU whose backward direction starts at each item's last real frame.

    forward: x (B, T, in), mask (B, T) -> (B, T, 2 * channels), zero at padded frames. Equal to a
    packed sequence, and without its sorting and its copies to the host.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.ahead = nn.GRU(in_channels, channels, batch_first=True)
        self.back = nn.GRU(in_channels, channels, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        layers = [self.ahead, self.back]
        if runs_low(x, layers):
            return low_gru(x, mask.sum(1), layers)
        steps = torch.arange(x.shape[1], device=x.device)
        mirrored = (
            mask.sum(1, keepdim=True) - 1 - steps
        )  # negative on padded frames, which stay where they are
        index = torch.where(mask, mirrored, steps)[:, :, None]
        mirrored_x = x.gather(1, index.expand(-1, -1, x.shape[2]))
        if runs_here(x):
            both = torch.stack([x.transpose(0, 1), mirrored_x.transpose(0, 1)])
            ahead, back = gru(both, layers).transpose(1, 2)
        else:
            ahead, back = self.ahead(x)[0], self.back(mirrored_x)[0]
        back = back.gather(1, index.expand(-1, -1, back.shape[2]))
        return torch.cat([ahead, back], 2).masked_fill(~mask[:, :, None], 0.0)


class Pointwise(nn.Module):
    """What stands where the GRU was: x (B, T, in), mask (B, T) -> (B, T, out), frame by frame."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.linear = Linear(in_channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x).masked_fill(~mask[:, :, None], 0.0)


class CBHG(nn.Module):
    """x (B, T, in_channels), mask (B, T) -> (B, T, 2 * settings.gru_channels), zero at padded
    frames.

    fused: runs the stack in training, as torch.compile makes it (`tacoskip.models.capture.fuse`).
    """

    fused: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None

    def __init__(self, in_channels: int, settings: CBHGSettings):
        super().__init__()
        # Each part draws its first weights apart, so that a change of one leaves the others alone.
        with own_draws():
            self.bank = (
                ConvBank(in_channels, settings.bank_channels, settings.bank_size)
                if settings.bank
                else None
            )
        width = settings.bank_size * settings.bank_channels if settings.bank else in_channels
        self.residual = settings.residual
        with own_draws():
            self.project1 = MaskedConv1d(width, settings.projection_channels, 3, bias=False)
        self.norm1 = MaskedBatchNorm1d(settings.projection_channels)
        self.project2 = MaskedConv1d(settings.projection_channels, in_channels, 3, bias=False)
        self.norm2 = MaskedBatchNorm1d(in_channels)
        with own_draws():
            self.widen = (
                nn.Identity()
                if in_channels == settings.channels
                else Linear(in_channels, settings.channels)
            )
        with own_draws():
            self.stack = build_block(
                settings.block or "highway",
                settings.channels,
                settings.depth,
                settings.skip,
                settings.topology,
                **settings.block_options,
            )
        self.out_channels = 2 * settings.gru_channels
        with own_draws():
            self.gru = (
                BiGRU(settings.channels, settings.gru_channels)
                if settings.gru
                else Pointwise(settings.channels, self.out_channels)
            )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = x
        if self.bank is not None:
            h = self.bank(x, mask)
        # A norm leaves nothing at padded frames, and takes no gradient from them.
        h = self.norm1(self.project1(h, mask, clear=self.bank is not None), mask, rectify=True)
        h = self.norm2(self.project2(h, mask, clear=True), mask)
        h = self.widen(x + h if self.residual else h)
        h = self.fused(self.stack, h, mask) if self.fused and self.training else self.stack(h, mask)
        return self.gru(h, mask)
