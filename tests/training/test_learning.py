"""Two processes learn from their rows what one learns from all, and agree on what does not fit."""

import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from tacoskip.training.learning import Learning, TooLong, _rows, is_no_memory
from tacoskip.training.processes import Processes

from . import sharing


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found, by case."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    workers = [
        subprocess.Popen(
            [sys.executable, sharing.__file__, str(folder)],
            env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for worker in workers:
        _, complaint = worker.communicate(timeout=600)
        assert worker.returncode == 0, complaint
    return [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["shared", "stand-in"])
def test_two_processes_learn_what_one_does(
    name: str, two: list[dict[str, Any]], accelerator: Accelerator
) -> None:
    """Gradients, losses and statistics of the whole batch, also where it has one row for two."""
    one = sharing.learn(name, accelerator, Processes(accelerator.device))
    assert one["losses"].keys() >= {"mel_loss", "stop_loss", "guided_loss", "loss"}
    for found in two:
        assert found[name]["parts"] == 1
        assert found[name]["frames"] == one["frames"]
        for what in ("gradients", "losses", "buffers"):
            close(found[name][what], one[what])


def test_all_halve_what_one_has_no_memory_for(two: list[dict[str, Any]]) -> None:
    """Process 0 has rows 0, 2, 4, process 1 rows 1 and 3: in halves 0, 4 and 1, then 2 and 3."""
    task, (rows, _) = sharing.Voice(), sharing.CASES["halved"]
    task.model.train()
    batch = sharing.batch(rows)
    counts = task.counts(batch)
    for kept in ([0, 4, 1], [2, 3]):
        batch.mel_lengths[:] = sharing.batch(rows).mel_lengths
        part = picked(batch, kept)
        shares = {name: value / counts[name] for name, value in task.counts(part).items()}
        losses = task.losses(task.forward(task.model, part), part, 0)
        sum(shares[name] * value for name, value in losses.items()).backward()
    expected = sharing.found(task)
    for found in two:
        assert found["halved"]["parts"] == 2
        close(found["halved"]["gradients"], expected["gradients"])
        close(found["halved"]["buffers"], expected["buffers"])


def picked(batch: sharing.Batch, rows: list[int]) -> sharing.Batch:
    values = [
        value[rows] if isinstance(value, torch.Tensor) else [value[row] for row in rows]
        for value in vars(batch).values()
    ]
    return sharing.Batch(*values)


def test_a_part_of_a_batch_has_no_needless_padding() -> None:
    whole = sharing.batch(5)
    parts = [_rows(whole, place, 2) for place in range(2)]
    assert [part.ids for part in parts] == [["clip0", "clip2", "clip4"], ["clip1", "clip3"]]
    assert parts[1].mel.shape[1] == parts[1].linear.shape[1] == 9
    assert parts[1].symbols.shape == (2, 3)
    assert torch.equal(parts[1].mel, whole.mel[1::2, :9])
    assert _rows(whole, 7, 8).ids == ["clip0"]


def test_what_was_too_much_is_not_tried_again(accelerator: Accelerator) -> None:
    task, said = sharing.Voice(), list[str]()
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(task.model.parameters(), 0.1))
    learning = Learning(
        task,
        task.model,
        optimizer,
        accelerator,
        Processes(accelerator.device),
        lambda line, warning: said.append(line),
    )
    whole, tries, forward = sharing.batch(5), list[int](), task.forward

    def counted(model: Any, batch: sharing.Batch) -> Any:
        tries.append(len(batch))
        return forward(model, batch)

    task.forward = counted  # type: ignore[method-assign]
    task.memory = 2
    before = [value.clone() for value in task.model.buffers()]
    state = torch.get_rng_state()
    learning.try_longest(whole, False, 0)
    assert tries == [5, 3, 2, 1, 1, 1]
    assert all(p.grad is None for p in task.model.parameters())
    assert all(map(torch.equal, before, task.model.buffers()))
    assert torch.equal(state, torch.get_rng_state())
    tries.clear()
    assert learning.gradients(whole, False, 0).parts == 4 and tries == [2, 1, 1, 1]
    assert len(said) == 1 and "no memory for a batch of 5 clips of up to 23 frames" in said[0]
    task.memory = 0
    with pytest.raises(TooLong, match=r"no memory for a single clip of 23 frames \(clip0\)"):
        learning.gradients(whole, False, 0)


def test_what_means_no_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_no_memory(error.value)
    assert is_no_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_no_memory(RuntimeError("shapes do not fit"))
