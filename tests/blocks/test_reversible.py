"""Reversible stacks with rebuilt activations give the gradients of the plain network."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import build_block
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.kernels.accelerate import accelerate, plain
from tacoskip.kernels.reversible import RebuiltReversible
from tacoskip.masks import lengths_to_mask

MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


def rebuilding(block: nn.Module) -> nn.Module:
    """A copy that rebuilds its activations."""
    copied = copy.deepcopy(block)
    copied.__class__ = RebuiltReversible
    return copied


def pair(block: str = "wide", depth: int = 4, **options: object) -> tuple[nn.Module, nn.Module]:
    """The same weights twice: activations rebuilt, activations kept. In float64."""
    torch.manual_seed(0)
    kept = build_block(block, 8, depth, topology="reversible", **options).double()
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter) + 0.05)
        for _ in range(30):  # statistics as after some training, or evaluation would overflow
            kept(torch.randn(3, 9, 8, dtype=torch.float64), MASK)
    for name, buffer in kept.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()
    return rebuilding(kept), kept


def passed(block: nn.Module, steps: int = 1) -> dict[str, Tensor]:
    """Output, gradients, statistics, and the next random number after `steps` passes."""
    torch.manual_seed(1)
    dtype = next(block.parameters()).dtype
    x = torch.randn(3, 9, 8, dtype=dtype, requires_grad=True)
    for _ in range(steps):
        output = block(x, MASK)
        output.square().sum().backward()
    found = {"output": output.detach(), "random": torch.rand(1), **dict(block.named_buffers())}
    assert x.grad is not None
    found["x"] = x.grad
    return found | {n: p.grad for n, p in block.named_parameters() if p.grad is not None}


# Batch norm; with dropout; without any random number; softmax over frames; means over frames.
@pytest.mark.parametrize(
    ("block", "options"),
    [
        ("residual", {}),
        ("wide", {"dropout": 0.4}),
        ("conformer_conv", {"dropout": 0.4, "kernel_size": 3}),
        ("convnext", {}),
        ("nonlocal", {}),
        ("squeeze_excite", {}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_those_of_kept_activations(
    block: str, options: dict[str, object], training: bool
) -> None:
    """Three passes: running statistics are counted once a pass, dropout draws new masks each."""
    rebuilt, kept = (module.train(training) for module in pair(block, **options))
    one, other = passed(rebuilt, 3), passed(kept, 3)
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    counted = [value for name, value in one.items() if name.endswith("num_batches_tracked")]
    assert all(value == (3 if training else 0) for value in counted)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_gradients_of_a_deep_stack_are_equal_to_the_bit(autocast: bool) -> None:
    torch.manual_seed(0)
    kept = build_block("wide", 8, 32, topology="reversible", widen=2, dropout=0.4)
    rebuilt = rebuilding(kept)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        # Backward inside, and a second pass: casts may be cached.
        one, other = passed(rebuilt, 2), passed(kept, 2)
    assert one["output"].dtype == torch.float32
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_autocast_reaches_the_transforms() -> None:
    rebuilt, _ = pair("wide")
    rebuilt.float().eval()
    x = torch.randn(3, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = rebuilt(x, MASK)
    assert (rounded - rebuilt(x, MASK)).abs().max() > 1e-4


def test_frozen_parameters_get_no_gradient() -> None:
    rebuilt, kept = pair("residual")
    for module in (rebuilt, kept):
        for parameter in (*module.units[1].parameters(), *module.units[2].f.norm1.parameters()):  # type: ignore[index,union-attr]
            parameter.requires_grad_(False)
    one, other = passed(rebuilt), passed(kept)
    assert one.keys() == other.keys()
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_second_derivatives_are_refused() -> None:
    rebuilt, _ = pair("residual", depth=1)
    x = torch.randn(3, 9, 8, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(rebuilt(x, MASK).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def kept_bytes(block: nn.Module, frames: int = 50) -> int:
    """Bytes that wait for backward: distinct storages that are neither parameters nor buffers."""
    owned = {t.untyped_storage().data_ptr() for t in (*block.parameters(), *block.buffers())}
    seen: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in owned:
            seen[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = block(torch.randn(2, frames, 8), torch.ones(2, frames, dtype=torch.bool))
    random = getattr(output.grad_fn.next_functions[0][0], "random", [])  # type: ignore[union-attr]
    states = {id(state): state[0].nbytes for unit in random for state in unit}
    return sum(seen.values()) + sum(states.values())


def test_accelerate_rebuilds_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    block = build_block("reversible", 8, 2)
    assert type(accelerate(block)) is RebuiltReversible
    assert type(plain(block)) is Reversible
    monkeypatch.setenv("TACOSKIP_KERNELS", "0")
    assert type(accelerate(block)) is Reversible


def test_memory_does_not_grow_with_depth() -> None:
    deep = {depth: build_block("reversible", 8, depth) for depth in (4, 16, 64)}
    rebuilt = [kept_bytes(rebuilding(block)) for block in deep.values()]
    assert rebuilt[0] == rebuilt[1] == rebuilt[2] > 0
    kept = [kept_bytes(deep[depth]) for depth in (4, 16)]
    chain = [kept_bytes(build_block("residual", 8, depth)) for depth in (4, 16)]
    for growing in (kept, chain):
        assert growing[1] > 3 * growing[0] > 3 * rebuilt[0]


WORKER = """
import sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tacoskip.blocks import build_block
from tacoskip.kernels.reversible import RebuiltReversible

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
saved = torch.load(f"{folder}/start.pt")
for name, start in saved["blocks"].items():
    block = build_block(name, 8, 3, topology="reversible").double()
    block.load_state_dict(start)
    block.__class__ = RebuiltReversible
    # Buckets of a few parameters each, so that gradients really are sent while others are rebuilt.
    parallel = DistributedDataParallel(block, bucket_cap_mb=0.0005, find_unused_parameters=False)
    rows = slice(2 * rank, 2 * rank + 2)
    for _ in range(2):  # a second pass: DDP had all its gradients in the first
        parallel.zero_grad()
        parallel(saved["x"][rows], saved["mask"][rows]).square().sum().backward()
    found = {n: p.grad for n, p in block.named_parameters()}
    torch.save(found, f"{folder}/{name}{rank}.pt")
distributed.destroy_process_group()
"""


def test_ddp_with_two_processes_gives_the_gradients_of_one(tmp_path: Path) -> None:
    """Of the whole batch for layer norm; for batch norm, which each process counts for itself, the
    mean of the halves.
    """
    torch.manual_seed(0)
    x = torch.randn(4, 9, 8, dtype=torch.float64)
    mask = lengths_to_mask(torch.tensor([9, 5, 2, 7]))
    blocks = {name: pair(name, depth=3)[1] for name in ("convnext", "residual")}
    start = {name: block.state_dict() for name, block in blocks.items()}
    torch.save({"blocks": start, "x": x, "mask": mask}, tmp_path / "start.pt")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for worker in workers:
        _, stderr = worker.communicate()
        assert worker.returncode == 0, stderr
    for name, block in blocks.items():
        for rows in (slice(0, 4),) if name == "convnext" else (slice(0, 2), slice(2, 4)):
            block(x[rows], mask[rows]).square().sum().backward()
        expected = {n: p.grad / 2 for n, p in block.named_parameters() if p.grad is not None}
        for rank in (0, 1):
            found = torch.load(tmp_path / f"{name}{rank}.pt")
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
            assert len(found) == len(list(block.parameters()))
