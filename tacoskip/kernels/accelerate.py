"""Speed as a pass over a finished network: plain modules become their faster equals.

A replacement is a subclass of the plain module that overrides methods only, so `accelerate` changes
the class of a module and nothing else: parameters, names, hooks and state dict keys stay, and
isinstance() holds. Only modules of exactly the plain type are replaced, never those of a subclass.
With TACOSKIP_KERNELS=0 in the environment all modules stay plain.
"""

import os
import shutil
import sysconfig
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from tacoskip.kernels.table import Replacement

Model = TypeVar("Model", bound=nn.Module)


def replacements(device: torch.device) -> list[Replacement]:
    """The table's entries for a device; none with TACOSKIP_KERNELS=0."""
    if os.environ.get("TACOSKIP_KERNELS") == "0":
        return []
    from tacoskip.kernels.reversible import REBUILT

    if device.type == "cpu":
        from tacoskip.kernels.cpu.replacements import REPLACEMENTS

        return [*REPLACEMENTS, REBUILT]
    if device.type == "cuda" and not missing_for_triton():
        with suppress(ImportError):  # torch without Triton
            from tacoskip.kernels.triton import REPLACEMENTS as TRITON

            return [*TRITON, REBUILT]
    return [REBUILT]


def missing_for_triton() -> str:
    """What this machine lacks of what Triton builds with at run time; empty where nothing."""
    if not any(map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang"))):
        return "a C compiler (gcc or clang)"
    header = Path(sysconfig.get_paths("posix_prefix")["include"], "Python.h")
    return "" if header.is_file() else f"{header} (the headers of Python: python3-dev)"


def accelerate(
    model: Model, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Model:
    """Replace plain modules of a network, in place, by faster ones that serve them; return it.

    device: where it runs; by default where its parameters are. dtype: what it computes in: float32,
    or the dtype of autocast.
    """
    plain(model)
    device = device or next((p.device for p in model.parameters()), torch.device("cpu"))
    table = {entry.plain: entry for entry in replacements(device)}
    for module in model.modules():
        entry = table.get(type(module))
        if entry is not None and entry.is_supported(module, device, dtype):
            module.__class__ = entry.fast
    return model


def plain(model: Model) -> Model:
    """Put the plain modules back, in place; for export and for counting operations."""
    for module in model.modules():
        if _is_fast(type(module)):
            module.__class__ = type(module).__mro__[1]
    return model


def describe(model: nn.Module) -> dict[str, str]:
    """For each plain type of the table that the network has: how many modules are replaced, and why
    others are not.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    kinds = Counter(type(module) for module in model.modules())
    table = {entry.plain: entry.fast for entry in replacements(device)}
    lines = {}
    for original, fast in table.items():
        derived = sum(
            count
            for kind, count in kinds.items()
            if issubclass(kind, original) and not _is_fast(kind) and kind not in table
        )
        counts = {
            "replaced": kinds[fast],
            "not supported here": kinds[original],
            "of a subclass": derived,
        }
        found = [f"{count} {reason}" for reason, count in counts.items() if count]
        if found:
            lines[original.__name__] = ", ".join(found)
    return lines


def _is_fast(kind: type[nn.Module]) -> bool:
    """Whether a type is a replacement: they live in this package."""
    return kind.__module__.startswith(f"{__package__}.")
