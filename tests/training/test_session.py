"""Where train.graph takes effect, and what is said where it cannot."""

from types import SimpleNamespace

import pytest
import torch

from tacoskip.config import load_config
from tacoskip.models.capture import Captured
from tacoskip.run_folder import build_network
from tacoskip.training import session as sessions
from tacoskip.training.session import Session


def started(
    task: str, device: str, graph: bool, count: int, why_not: str, patch: pytest.MonkeyPatch
) -> tuple[Session, list[str]]:
    """A session of a smoke recipe as far as train.graph goes, and what it has told."""
    recipe = "smoke" if task == "tts" else "smoke_asr"
    config = load_config(recipe, [f"train.graph={str(graph).lower()}", "train.log_every=2"])
    told: list[str] = []
    session = Session.__new__(Session)
    session.config, session.model, session.fused = config, build_network(config, 5, 1), False
    session.processes = SimpleNamespace(  # type: ignore[assignment]
        device=torch.device(device), count=count, main=False
    )
    session.tell = lambda message, warning=False: told.append(message)  # type: ignore[method-assign]
    patch.setattr(sessions, "fuse", lambda model: why_not)
    session._hasten()
    return session, [line for line in told if "graph" in line]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("task", ["tts", "asr"])
def test_on_a_gpu_the_attention_is_captured_and_the_rest_compiled_if_asked(
    task: str, device: str, graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, told = started(task, device, graph, 1, "", monkeypatch)
    captured = task == "tts" and isinstance(session.model.decoder.loop, Captured)
    assert captured == (task == "tts" and device == "cuda" and graph)
    assert session.fused == (device == "cuda" and graph)
    assert len(told) == graph


@pytest.mark.parametrize(("count", "why_not"), [(1, "no compiler"), (2, "")])
def test_what_cannot_be_compiled_is_said_and_runs_as_it_is(
    count: int, why_not: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, told = started("tts", "cuda", True, count, why_not, monkeypatch)
    assert not session.fused
    assert len(told) == 1
    assert (why_not or "several processes") in told[0]
    assert isinstance(session.model.decoder.loop, Captured)


@pytest.fixture
def stances(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(torch.compiler, "set_stance", found.append)
    return found


def test_a_step_that_probes_listen_to_is_not_compiled(
    stances: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = started("tts", "cuda", True, 1, "", monkeypatch)
    watched: list[int] = []
    session.gradients = SimpleNamespace(  # type: ignore[assignment]
        watch=lambda: watched.append(session.step)
    )
    for session.step in range(3):
        session.listen()
    session.close()
    assert watched == [1]
    assert stances == ["default", "force_eager", "default", "default"]


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
