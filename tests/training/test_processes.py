"""Several processes compute what one computes; a lost connection is one line."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from tacoskip.training import processes as module
from tacoskip.training.processes import Processes, ProcessLost, one_line_errors, start_accelerator

from . import two_processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Highway is Tacotron's own; the others rebuild activations in backward or choose units.
BLOCKS = ["highway", "reversible", "dynamic", "deactivable"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two processes computed, by block and number of rows."""
    folder = tmp_path_factory.mktemp("two")
    command = [*TORCHRUN, two_processes.__file__, str(folder), *BLOCKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("rows", [5, 1])
@pytest.mark.parametrize("block", BLOCKS)
def test_two_processes_compute_the_losses_and_gradients_of_one(
    block: str, rows: int, results: list[dict[Any, Any]]
) -> None:
    """Of five rows shared out, and of one row that both take."""
    accelerator = start_accelerator("no", cpu=True)
    one = two_processes.one_step(block, rows, accelerator, Processes(accelerator.device))
    for result in (each[block, rows] for each in results):
        # Some losses are summed in single precision.
        torch.testing.assert_close(result["losses"], one["losses"], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(result["gradients"], one["gradients"], rtol=1e-5, atol=1e-7)
        if rows > 1:  # twice the same row counts as two in the unbiased variance
            torch.testing.assert_close(result["buffers"], one["buffers"], rtol=1e-6, atol=1e-8)


def test_runs_of_one_process_have_their_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate keeps its state; how to clear it is not documented."""
    for precision in ("bf16", "no"):
        assert start_accelerator(precision, cpu=True).mixed_precision == precision
    monkeypatch.delattr(module.AcceleratorState, "_reset_state")
    assert start_accelerator("no", cpu=True).mixed_precision == "no"


def test_a_lost_connection_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = RuntimeError("[..]/gloo/transport/tcp/pair.cc:547] Connection closed by peer\nframe")
    lost = pytest.raises(ProcessLost, match="another process of this run has ended")
    with lost as caught, one_line_errors():
        raise error
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="shapes"), one_line_errors():
        raise RuntimeError("shapes do not fit")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(RuntimeError, match="Connection closed"), one_line_errors():
        raise error


def test_different_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(torch.device("cpu"))
    processes.check_same({"train.learning_rate": 0.1})
    values = [{"train.learning_rate": 0.1, "seed": 0}, {"train.learning_rate": 0.5, "seed": 0}]
    monkeypatch.setattr(processes, "gather_objects", lambda _: values)
    with pytest.raises(ValueError, match=r"process 1: train.learning_rate=0.5 \(0.1 on the first"):
        processes.check_same(values[0])
