"""What processes of one run say where they do not find each other; of one alone nothing changes."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from tacoskip.training import processes
from tacoskip.training.processes import Processes, ProcessLost, meeting


def test_processes_that_do_not_meet_name_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = "Gloo connectFullMesh failed with [..]: Connection refused\nException raised from ..."
    with pytest.raises(ProcessLost) as caught, meeting():
        raise RuntimeError(said)
    line = str(caught.value)
    assert "GLOO_SOCKET_IFNAME" in line and "Connection refused" in line and "\n" not in line


def test_who_waits_too_long_for_the_others_ends_and_names_the_interface(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "MEETING", timedelta(0))
    monkeypatch.setattr(processes, "PARTING_SECONDS", 0.0)
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: code == 1 and ended.set())
    with meeting():
        assert ended.wait(30)
    assert "GLOO_SOCKET_IFNAME" in capsys.readouterr().err


def test_one_alone_has_met(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(RuntimeError, match="no such device"), meeting():
        raise RuntimeError("no such device")
    alone = Processes(torch.device("cpu"))
    alone.check_same({"a": 1})
    alone.check_shared(tmp_path / "run")
    assert not (tmp_path / "run").exists()
