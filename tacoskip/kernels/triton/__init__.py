"""Triton kernels for NVIDIA GPUs."""

from tacoskip.kernels.triton.replacements import REPLACEMENTS

__all__ = ["REPLACEMENTS"]
