"""Where and in what arithmetic a run trains, and which of its modules are replaced by fast ones."""

from typing import Any

import torch
from torch import nn

from tacoskip.kernels.accelerate import accelerate, describe
from tacoskip.training.settings import TrainSettings


def check_device(settings: TrainSettings) -> tuple[bool, str]:
    """Whether to train on a GPU, and accelerate's name of the precision.

    Raises ValueError for what this machine cannot do.
    """
    cuda = torch.cuda.is_available() and settings.device != "cpu"
    if settings.device == "cuda" and not cuda:
        raise ValueError("train.device=cuda, but torch finds no GPU here (see: tacoskip doctor)")
    if settings.precision == "fp16" and not cuda:
        raise ValueError("train.precision=fp16 needs a GPU; a CPU supports bf16 and fp32")
    names = {"auto": "bf16" if cuda else "no", "fp32": "no", "tf32": "no"}
    return cuda, names.get(settings.precision, settings.precision)


def set_tf32(enabled: bool) -> None:
    """Let a GPU round the inputs of fp32 products, convolutions and GRUs to TF32, or do not."""
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    for backend in backends:
        backend.fp32_precision = "tf32" if enabled else "ieee"


def replace_modules(network: nn.Module, device: torch.device, precision: str) -> dict[str, str]:
    """Replace modules of a network by faster equals; return which, by name of the plain one.

    precision: accelerate's name.
    """
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    accelerate(network, device, dtypes.get(precision, torch.float32))
    return describe(network)
