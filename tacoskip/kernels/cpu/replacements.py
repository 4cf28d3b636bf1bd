"""The table's entries for a CPU."""

from collections.abc import Callable
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

Predicate = Callable[[nn.Module, torch.device, torch.dtype], bool]


def on_cpu(test: Callable[[Any, torch.dtype], bool]) -> Predicate:
    """A predicate of module and dtype, on the CPU only."""
    return lambda module, device, dtype: device.type == "cpu" and test(module, dtype)


def compiled(fitting: Callable[[Any], bool]) -> Predicate:
    """Compiled kernels of the dtype are there, and the module's sizes suit them."""
    return on_cpu(lambda module, dtype: has_kernels(dtype) and fitting(module))


REPLACEMENTS = [
    Replacement(
        nn.Linear,
        OneDNNLinear,
        on_cpu(lambda module, dtype: dtype == torch.float32 and is_amd()),
        "float32 products in training by oneDNN, on AMD processors",
    ),
    Replacement(
        SameConv1d,
        ChannelsLastConv1d,
        on_cpu(lambda module, dtype: True),
        "convolution with channels innermost",
    ),
    Replacement(
        MaskedConv1d,
        ChannelsLastMaskedConv1d,
        on_cpu(lambda module, dtype: True),
        "convolution with channels innermost",
    ),
    Replacement(
        MaskedBatchNorm1d,
        CompiledBatchNorm1d,
        compiled(lambda norm: fits(norm.num_features)),
        "masked batch norm and its ReLU in two passes each way",
    ),
    Replacement(
        ConvBank,
        CompiledConvBank,
        compiled(lambda bank: fits(bank.convs[0].out_channels)),
        "batch norm, ReLU and max pool of the bank in two passes each way",
    ),
    Replacement(
        BiGRU,
        CompiledBiGRU,
        compiled(lambda gru: fits(gru.ahead.hidden_size)),
        "both directions' steps in one kernel",
    ),
    Replacement(
        ResidualGRU,
        CompiledResidualGRU,
        compiled(lambda gru: fits(gru.hidden_size)),
        "all steps in one kernel",
    ),
    Replacement(
        AttentionLoop,
        CompiledAttentionLoop,
        compiled(is_additive),
        "all steps of additive attentions (bahdanau, location, forward) in one kernel",
    ),
]
