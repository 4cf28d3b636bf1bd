"""An ablation on a Ray cluster of two nodes, one of which goes away."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tacoskip
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.launchers import LOG
from tacoskip.ablation.plan import DONE
from tacoskip.ablation.request import parse_request, resolve
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints

from .conftest import Ledger

pytestmark = [pytest.mark.faults, pytest.mark.ray]


def ablate(pairs: list[str], run: Path) -> Comparison:
    request, base = resolve(parse_request([*pairs, f"run={run}"]))
    prepare(base)
    return tacoskip.ablate(request, log=lambda _: None)


def test_runs_of_a_killed_node_resume_elsewhere(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inject: Ledger
) -> None:
    """Two nodes with a run each; one is killed after both runs have saved something."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    import psutil
    from ray.cluster_utils import Cluster

    asked = ["recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"]
    asked += ["data.validation=3", "data.test=2", "train.device=cpu", "train.threads=1"]
    asked += ["blocks=residual", "seeds=1", "aa=none", "match=none", "train.max_steps=30"]
    asked += ["train.checkpoint_minutes=1e-9", "train.deterministic=true"]
    asked += ["train.evaluate_every=1000"]
    local = {run.name: run.figures for run in ablate(asked, tmp_path / "local").runs}
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
            victim.kill()

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        with inject("node of a cluster killed"):
            found = ablate([*asked, "launcher=ray"], tmp_path / "cluster").runs
            assert {run.state for run in found} == {DONE}
            assert {run.name: run.figures for run in found} == local
            logs = [(run.folder / LOG).read_text() for run in found]
            assert sum("resumed" in log for log in logs) == 1
    finally:
        striker.join()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        cluster.shutdown()
