"""The table's entries for a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d, SameConv1d
from tacoskip.kernels.convolution import ChannelsLastConv1d, ChannelsLastMaskedConv1d
from tacoskip.kernels.cpu.attention_loop import CompiledAttentionLoop, is_additive
from tacoskip.kernels.cpu.batch_norm import CompiledBatchNorm1d, CompiledConvBank
from tacoskip.kernels.cpu.gru import CompiledBiGRU, CompiledResidualGRU
from tacoskip.kernels.cpu.networks import fits, has_kernels
from tacoskip.kernels.table import Replacement
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.cbhg import BiGRU, ConvBank
from tacoskip.models.decoder import ResidualGRU


def compiled(
    plain: type[nn.Module], fast: type[nn.Module], suits: Callable[[Any], bool]
) -> Replacement:
    """An entry in C; suits: whether the sizes of a module suit it."""

    def is_supported(module: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
        return device.type == "cpu" and has_kernels(dtype) and suits(module)

    return Replacement(plain, fast, is_supported)


REPLACEMENTS = [
    Replacement(SameConv1d, ChannelsLastConv1d),
    Replacement(MaskedConv1d, ChannelsLastMaskedConv1d),
    compiled(MaskedBatchNorm1d, CompiledBatchNorm1d, lambda norm: fits(norm.num_features)),
    compiled(ConvBank, CompiledConvBank, lambda bank: fits(bank.convs[0].out_channels)),
    compiled(BiGRU, CompiledBiGRU, lambda gru: fits(gru.ahead.hidden_size)),
    compiled(ResidualGRU, CompiledResidualGRU, lambda gru: fits(gru.hidden_size)),
    compiled(AttentionLoop, CompiledAttentionLoop, is_additive),
]
