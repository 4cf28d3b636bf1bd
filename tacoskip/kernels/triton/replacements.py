"""The table's entries for an NVIDIA GPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d, SameConv1d
from tacoskip.kernels.convolution import ChannelsLastConv1d, ChannelsLastMaskedConv1d
from tacoskip.kernels.norm import normalize
from tacoskip.kernels.table import Replacement
from tacoskip.kernels.triton.attention import attention_loop
from tacoskip.kernels.triton.gru import gru
from tacoskip.kernels.triton.norm import PASSES
from tacoskip.models.attention import Bahdanau, Forward, LocationSensitive
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.cbhg import BiGRU, ConvBank
from tacoskip.models.decoder import ResidualGRU
from tacoskip.precision import full_precision

DTYPES = (torch.float32, torch.bfloat16)
# In float32 without TF32, cuDNN's GRU and torch's own location filters are faster on an H200.
PLAIN_IN_FLOAT32: tuple[type[nn.Module], ...] = (BiGRU, ResidualGRU, LocationSensitive)
WIDEST = 256  # hidden channels whose state a program holds in registers


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of autocast, or else of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def input_weights(
    w_x: Tensor, b_x: Tensor, b_h: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Input weights and biases ordered n, r, z with the state's biases of r and z; that of n."""
    channels = len(b_x) // 3
    bias = b_x + functional.pad(b_h[: 2 * channels], (0, channels))
    return w_x.roll(channels, 0).to(dtype), bias.roll(channels).to(dtype), b_h[2 * channels :]


def run_gru(x: Tensor, lengths: Tensor, layers: list[nn.GRU]) -> Tensor:
    """States (B, T, D H) of one layer a direction, zero beyond the lengths."""
    dtype = compute_dtype(x)
    with full_precision(x):
        weights, biases, state_biases = zip(
            *(
                input_weights(
                    layer.get_parameter("weight_ih_l0"),
                    layer.get_parameter("bias_ih_l0"),
                    layer.get_parameter("bias_hh_l0"),
                    dtype,
                )
                for layer in layers
            ),
            strict=True,
        )
        gates = functional.linear(x.to(dtype), torch.cat(weights), torch.cat(biases))
        gates = gates.unflatten(2, (len(layers), -1))
        recurrent = torch.stack([layer.get_parameter("weight_hh_l0") for layer in layers])
        hidden, _ = gru(gates, recurrent.to(dtype), torch.stack(state_biases), lengths)
        return hidden.flatten(2)


class TritonBiGRU(BiGRU):
    """Both directions' steps in one kernel."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if compute_dtype(x) not in DTYPES:
            return super().forward(x, mask)
        return run_gru(x, mask.sum(1), [self.ahead, self.back])


class TritonResidualGRU(ResidualGRU):
    """All steps in one kernel under teacher forcing; one step at a time stays with torch."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        if state is not None or x.shape[1] == 1 or compute_dtype(x) not in DTYPES:
            return super().forward(x, state)
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
        y = run_gru(x, lengths, [self])
        return x + y, y[:, -1:].transpose(0, 1)


def location_filters(attention: Bahdanau) -> tuple[Tensor, int]:
    """Both layers of the location features as one (A, 2 P), P the width's next power of 2; and the
    width: without filters 0.
    """
    if not isinstance(attention, LocationSensitive):
        return attention.energy.weight.new_empty(attention.energy.in_features, 0), 0
    width = int(attention.location.kernel_size[0])
    combined = attention.location_out.weight @ attention.location.weight.flatten(1)
    padded = max(16, 1 << (width - 1).bit_length())
    filters = functional.pad(combined.unflatten(1, (2, width)), (0, padded - width))
    return filters.flatten(1), width


class TritonAttentionLoop(AttentionLoop):
    """All steps of teacher forcing in one kernel."""

    def forward(
        self, inputs: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(inputs)
        if not self.training or dtype not in DTYPES:
            return super().forward(inputs, memory, mask)
        with full_precision(memory):
            cell, attention = self.cell, self.attention
            assert isinstance(attention, Bahdanau)
            filters, width = location_filters(attention)
            w, bias, state_bias = input_weights(cell.weight_ih, cell.bias_ih, cell.bias_hh, dtype)
            memory, split = memory.to(dtype), inputs.shape[2]
            parameters = [
                cell.weight_hh,
                state_bias,
                attention.query.weight,
                attention.query.bias,
                attention.energy.weight[0],
                filters,
            ]
            hidden, weights, _, _ = attention_loop(
                functional.linear(inputs.to(dtype), w[:, :split], bias),
                functional.linear(memory, w[:, split:]),
                functional.linear(memory, attention.memory.weight.to(dtype)),
                [each.to(dtype) for each in parameters],
                mask.sum(1),
                width,
                isinstance(attention, Forward),
            )
            return hidden, torch.bmm(weights.to(dtype), memory), weights


class TritonBatchNorm1d(MaskedBatchNorm1d):
    """Masked batch norm and its ReLU in three passes each way."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training or x.dtype not in DTYPES:
            return super().forward(x, mask)
        return normalize(PASSES, self, [x], mask, pool=False)


class TritonConvBank(ConvBank):
    """The bank's batch norm, ReLU and max pool in three passes each way."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not self.training or compute_dtype(x) not in DTYPES:
            return super().forward(x, mask)
        return normalize(
            PASSES, self.norm, [torch.cat([conv(x) for conv in self.convs], 2)], mask, True
        )


def is_additive(loop: AttentionLoop) -> bool:
    """Whether the kernel has the attention of a loop, in its sizes."""
    attention: Any = loop.attention
    if type(attention) not in (Bahdanau, LocationSensitive, Forward):
        return False
    return max(loop.cell.hidden_size, attention.query.out_features) <= WIDEST


def entry(
    plain: type[nn.Module], fast: type[nn.Module], suits: Callable[[Any], bool] = lambda _: True
) -> Replacement:
    """An entry in Triton; suits: whether the sizes of a module suit it."""

    def is_supported(module: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
        kind = type(getattr(module, "attention", module))
        is_slow = dtype == torch.float32 and issubclass(kind, PLAIN_IN_FLOAT32)
        return device.type == "cuda" and dtype in DTYPES and not is_slow and suits(module)

    return Replacement(plain, fast, is_supported)


REPLACEMENTS = [
    entry(BiGRU, TritonBiGRU, lambda gru: gru.ahead.hidden_size <= WIDEST),
    entry(ResidualGRU, TritonResidualGRU, lambda gru: gru.hidden_size <= WIDEST),
    entry(AttentionLoop, TritonAttentionLoop, is_additive),
    entry(MaskedBatchNorm1d, TritonBatchNorm1d),
    entry(ConvBank, TritonConvBank),
    entry(SameConv1d, ChannelsLastConv1d),
    entry(MaskedConv1d, ChannelsLastMaskedConv1d),
]
