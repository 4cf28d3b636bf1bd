"""An ablation on a Ray cluster of two nodes, one of which goes away."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tacoskip.ablation import launch as launching
from tacoskip.ablation.ablate import ablate, settle
from tacoskip.ablation.collect import collect
from tacoskip.ablation.grid import read_request
from tacoskip.ablation.plan import DONE
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints

from .conftest import Ledger

pytestmark = [pytest.mark.faults, pytest.mark.ray]


def carry_out(pairs: list[str], run: Path) -> Path:
    request = read_request([*pairs, f"run={run}"])
    base = settle(request)
    prepare(base)
    return ablate(request, base, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_node_dies_and_nothing_is_lost(
    number: signal.Signals,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inject: Ledger,
) -> None:
    """Two nodes with a run each; when both have saved something one is killed, or falls silent as
    a machine that loses its power does: its connections stay open.
    """
    pytest.importorskip("ray")
    import psutil
    from ray.cluster_utils import Cluster

    asked = ["recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"]
    asked += ["data.validation=3", "data.test=2", "train.device=cpu", "train.threads=1"]
    asked += ["blocks=residual", "seeds=1", "aa=none", "match=none", "train.max_steps=30"]
    asked += ["train.checkpoint_minutes=1e-9", "train.deterministic=true"]
    asked += ["train.evaluate_every=1000"]
    local = {run.name: run.figures for run in collect(carry_out(asked, tmp_path / "local"))[1]}

    monkeypatch.setattr(launching, "CUT_OFF_SECONDS", 0.0)
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    soon |= {"health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": soon})
    node = cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    runs = [tmp_path / "cluster" / name / "seed-0" for name in ("highway", "residual")]
    victims: list[Any] = []

    def strike() -> None:
        while not all(checkpoints(run) for run in runs):
            time.sleep(0.05)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        victims.extend([raylet, *raylet.children(recursive=True)])
        for victim in victims:
            victim.send_signal(number)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        with inject("node of a cluster killed, silent"):
            found = collect(carry_out([*asked, "launcher=ray"], tmp_path / "cluster"))[1]
            assert {run.state for run in found} == {DONE}
            assert {run.name: run.figures for run in found} == local
            logs = [(run.folder / launching.LOG).read_text() for run in found]
            assert sum("resumed" in log for log in logs) == 1
    finally:
        striker.join()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        cluster.shutdown()
