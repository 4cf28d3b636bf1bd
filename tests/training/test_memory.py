"""Lack of memory is said in one line; a batch that is only tried leaves no trace."""

import pytest
import torch
from torch import nn

from tacoskip.config import load_config
from tacoskip.training.memory import OutOfMemory, is_out_of_memory, memory_for, rehearsal

from .two_processes import random_batch


def test_rehearsal_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.BatchNorm1d(3))
    before = [value.clone() for value in model.buffers()]
    random = torch.get_rng_state()
    with rehearsal(model, torch.device("cpu")):
        model(torch.randn(4, 3)).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, before, model.buffers()))
    assert torch.equal(random, torch.get_rng_state())


def test_lack_of_memory_names_the_batch_and_the_settings() -> None:
    batch = random_batch(load_config("smoke", ["data.root=."]), 5)
    expected = r"no memory for 5 clips of up to 23 frames \(clip0, ...\): lower data.batch_seconds"
    with pytest.raises(OutOfMemory, match=expected), memory_for(batch):
        raise torch.OutOfMemoryError("out of memory")
    with pytest.raises(RuntimeError, match="shapes do not fit"), memory_for(batch):
        raise RuntimeError("shapes do not fit")


def test_errors_that_mean_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
