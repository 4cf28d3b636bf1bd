"""The table's entries for a CPU."""

from typing import Any

import torch
from torch import nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d, SameConv1d
from tacoskip.kernels.cpu.attention_loop import CompiledAttentionLoop, is_additive
from tacoskip.kernels.cpu.batch_norm import CompiledBatchNorm1d, CompiledConvBank
from tacoskip.kernels.cpu.gru import CompiledBiGRU, CompiledResidualGRU
from tacoskip.kernels.cpu.matmul import (
    ChannelsLastConv1d,
    ChannelsLastMaskedConv1d,
    OneDNNLinear,
    is_amd,
)
from tacoskip.kernels.cpu.networks import fits, has_kernels
from tacoskip.kernels.table import Replacement
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.cbhg import BiGRU, ConvBank
from tacoskip.models.decoder import ResidualGRU

# Whether the kernels suit a module's sizes: channels are whole vectors.
SUITS: dict[type[nn.Module], Any] = {
    MaskedBatchNorm1d: lambda norm: fits(norm.num_features),
    ConvBank: lambda bank: fits(bank.convs[0].out_channels),
    BiGRU: lambda gru: fits(gru.ahead.hidden_size),
    ResidualGRU: lambda gru: fits(gru.hidden_size),
    AttentionLoop: is_additive,
}


def is_supported(module: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a CPU has what the replacement of a module needs, for this dtype and its sizes."""
    if device.type != "cpu":
        return False
    if isinstance(module, nn.Linear):
        return dtype == torch.float32 and is_amd()
    suits = SUITS.get(type(module))
    return suits is None or (has_kernels(dtype) and suits(module))


REPLACEMENTS = [
    Replacement(plain, fast, is_supported, fast.__doc__ or "")
    for plain, fast in (
        (nn.Linear, OneDNNLinear),
        (SameConv1d, ChannelsLastConv1d),
        (MaskedConv1d, ChannelsLastMaskedConv1d),
        (MaskedBatchNorm1d, CompiledBatchNorm1d),
        (ConvBank, CompiledConvBank),
        (BiGRU, CompiledBiGRU),
        (ResidualGRU, CompiledResidualGRU),
        (AttentionLoop, CompiledAttentionLoop),
    )
]
