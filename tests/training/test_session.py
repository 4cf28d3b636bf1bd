"""A session's state beside the network's."""

from types import SimpleNamespace

import pytest
import torch

from tacoskip.training.session import Session


def test_a_gpus_generator_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.__new__(Session)
    session.processes = SimpleNamespace(device=torch.device("cuda"))  # type: ignore[assignment]
    gpu = {"state": torch.tensor([1], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: gpu["state"])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: gpu.update(state=state))
    before = session._gpu_random()
    gpu["state"] = torch.tensor([2], dtype=torch.uint8)
    session._set_gpu_random(None)  # of a run on a CPU
    assert int(gpu["state"]) == 2
    session._set_gpu_random(before)
    assert int(gpu["state"]) == 1
    session.processes.device = torch.device("cpu")
    assert session._gpu_random() is None
