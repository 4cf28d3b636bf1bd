"""Where train.graph takes effect, and what is said where it cannot."""

from types import SimpleNamespace

import pytest
import torch

from tacoskip.config import load_config
from tacoskip.models.capture import Captured
from tacoskip.run_folder import build_network
from tacoskip.training.session import Session


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("task", ["tts", "asr"])
def test_the_attention_is_captured_on_a_gpu_if_asked(task: str, device: str, graph: bool) -> None:
    config = load_config(
        "smoke" if task == "tts" else "smoke_asr", [f"train.graph={str(graph).lower()}"]
    )
    told: list[str] = []
    session = SimpleNamespace(
        config=config,
        model=build_network(config, 5, 1),
        processes=SimpleNamespace(device=torch.device(device)),
        tell=told.append,
    )
    Session._capture(session)  # type: ignore[arg-type]
    captured = task == "tts" and isinstance(session.model.decoder.loop, Captured)
    assert captured == (task == "tts" and device == "cuda" and graph)
    assert any("graph" in line for line in told) == (graph and not captured)
