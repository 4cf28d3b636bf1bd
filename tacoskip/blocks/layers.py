"""Layers that padding cannot reach: what every block family and CBHG are made of.

Shapes: B batch, T frames, C channels. `mask` is bool (B, T), True on real frames.
"""

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from tacoskip.masks import clear_padding


class SameConv1d(nn.Conv1d):
    """Convolution over time that keeps the number of frames: x (B, T, in) -> (B, T, out).

    Zeros stand beyond both ends. An even kernel looks one frame further ahead than back, as
    TensorFlow's "same" does, and with it the original Tacotron.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x.transpose(1, 2), self.context)  # (B, T, C) -> (B, C, T)
        return super().forward(x).transpose(1, 2)

    @property
    def context(self) -> tuple[int, int]:
        """Frames that it looks back and ahead."""
        span = self.dilation[0] * (self.kernel_size[0] - 1)
        return span // 2, span - span // 2


class MaskedConv1d(SameConv1d):
    """As `SameConv1d` on x whose padded frames count as zeros: x (B, T, in), mask (B, T) ->
    (B, T, out), of any value at padded frames: the next layer masks them, MaskedBatchNorm1d does.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(clear_padding(x, mask))


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy 2015) whose statistics count real frames only.

    x (B, T, C), mask (B, T) -> (B, T, C), zero at padded frames. More padding changes neither
    output nor running statistics. relu: a ReLU follows. sync: in training the statistics are those
    of all processes' frames together, where torch.distributed runs.
    """

    sync = False

    def __init__(self, channels: int, relu: bool = False):
        super().__init__(channels)
        self.relu = relu

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        real = mask[:, :, None]
        mean, variance = self.statistics(x, real) if self.training else self.running()
        scale = self.weight * torch.rsqrt(variance + self.eps)
        y = (x - mean) * scale + self.bias
        y = torch.relu(y) if self.relu else y
        return y.masked_fill(~real, 0.0).to(x.dtype)

    def running(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of evaluation."""
        assert self.running_mean is not None and self.running_var is not None
        return self.running_mean, self.running_var

    def statistics(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (C,) of the real frames, which also move the running ones."""
        x, ones = x.to(self.weight.dtype), real.to(self.weight.dtype)
        count = self.total(ones.sum()).clamp(min=1)
        mean = self.total(x.masked_fill(~real, 0.0).sum((0, 1))) / count
        variance = self.total((x - mean).square().masked_fill(~real, 0.0).sum((0, 1))) / count
        self.update(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        return mean, variance

    def total(self, x: Tensor) -> Tensor:
        """Sum x over the processes that share a batch; its gradient is summed too."""
        if self.sync and distributed.is_available() and distributed.is_initialized():
            from torch.distributed.nn.functional import all_reduce

            x = all_reduce(x)
        return x

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance (C,)."""
        running_mean, running_variance = self.running()
        assert self.num_batches_tracked is not None and self.momentum is not None
        running_mean.lerp_(mean.to(running_mean.dtype), self.momentum)
        running_variance.lerp_(variance.to(running_variance.dtype), self.momentum)
        self.num_batches_tracked += 1


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real frames: x (B, T, C), mask (B, T) -> (B, C)."""
    total = clear_padding(x, mask).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)
