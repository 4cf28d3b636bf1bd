"""The written-out GRU against torch's own: outputs and every gradient, compiled and not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tacoskip.kernels import cpu as native
from tacoskip.kernels.cpu import gru as compiled
from tacoskip.models.cbhg import BiGRU
from tacoskip.models.recurrent import gru

Found = tuple[Tensor, ...]


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a step is taken."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "takes", lambda x: False)
    elif native.loops() is None:
        pytest.skip(native.why())
    return str(request.param)


def outcome(run: Callable[[], Tensor], wanted: list[Tensor], pull: Tensor) -> Found:
    out = run()
    return (out, *torch.autograd.grad(out, wanted, pull))


# Channels that fill no vector, rows that fill no block, more steps than one chunk.
@pytest.mark.parametrize(("directions", "steps"), [(1, 1), (1, 40), (2, 37)])
@pytest.mark.parametrize(("rows", "inputs", "channels"), [(1, 5, 4), (3, 5, 4), (13, 20, 37)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gru_is_torchs(
    way: str, directions: int, steps: int, rows: int, inputs: int, channels: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    layers = [nn.GRU(inputs, channels).to(dtype) for _ in range(directions)]
    x = torch.randn(directions, steps, rows, inputs, dtype=dtype, requires_grad=True)
    # As it comes from a network that wants the items first.
    pull = torch.randn(rows, directions, steps, channels, dtype=dtype).permute(1, 2, 0, 3)
    wanted = [x, *(p for layer in layers for p in layer.parameters())]

    def theirs() -> Tensor:
        return torch.stack([layer(part)[0] for layer, part in zip(layers, x, strict=True)])

    expected = outcome(theirs, wanted, pull)
    found = outcome(lambda: gru(x, layers), wanted, pull)
    close = {} if dtype == torch.float64 else {"atol": 2e-5, "rtol": 1e-5}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **close)
    with torch.no_grad():
        torch.testing.assert_close(gru(x, layers), found[0], atol=0, rtol=0)


def test_gates_that_are_wide_open_or_shut(way: str) -> None:
    """Far beyond where e^x has a float of its own, and with no number at all."""
    layer = nn.GRU(4, 20)
    x = torch.randn(1, 9, 2, 4) * 1e4
    with torch.no_grad():
        torch.testing.assert_close(gru(x, [layer])[0], layer(x[0])[0])
        x[0, 5, 1, 0] = torch.nan
        found = gru(x, [layer])[0]
    assert found[5:, 1].isnan().all()
    assert found[:, 0].isfinite().all() and found[:5].isfinite().all()


def test_the_number_of_threads_changes_nothing(way: str) -> None:
    torch.manual_seed(0)
    layers, x = [nn.GRU(16, 32), nn.GRU(16, 32)], torch.randn(2, 20, 11, 16, requires_grad=True)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(gru(x, layers))
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:  # the products before the steps may differ in a last bit
        torch.testing.assert_close(one, found[0], atol=1e-6, rtol=1e-6)


def test_under_autocast_products_are_in_half_precision_and_states_are_not(way: str) -> None:
    torch.manual_seed(0)
    layers = [nn.GRU(8, 8)]
    x = torch.randn(1, 12, 4, 8, requires_grad=True)

    def run() -> tuple[Tensor, Tensor]:
        hidden = gru(x, layers)
        return hidden, torch.autograd.grad(hidden.square().sum(), x)[0]

    exact, exact_grad = run()
    with torch.autocast("cpu", torch.bfloat16):
        low, low_grad = run()
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, atol=0.02, rtol=0.02)
    torch.testing.assert_close(low_grad, exact_grad, atol=0.05, rtol=0.05)


def test_both_directions_without_a_gradient_are_those_with_one(way: str) -> None:
    torch.manual_seed(0)
    both, x = BiGRU(6, 10), torch.randn(3, 20, 6)
    mask = torch.arange(20) < torch.tensor([[20], [7], [1]])
    expected = both(x, mask).detach()
    with torch.no_grad():
        torch.testing.assert_close(both(x, mask), expected)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No compiler, a compiler that fails, or none wanted: a reason, and no loops."""
    found = native._found.__wrapped__
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TACOSKIP_NATIVE", "0")
    assert found() == (None, "TACOSKIP_NATIVE=0")
    monkeypatch.delenv("TACOSKIP_NATIVE")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == (None, "no C compiler (cc, gcc or clang)")
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\necho no >&2\n[ "$1" = --version ]\n')
    broken.chmod(0o755)
    loops, why = found()
    assert loops is None and why.startswith(f"{broken} could not compile them (no")
    assert not list((tmp_path / "cache").rglob("*.so"))
    (tmp_path / "cache" / "tacoskip").chmod(0o777)
    assert "can be written by others" in found()[1]


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if native.loops() is None:
        pytest.skip(native.why())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native._found.__wrapped__()[0] is not None
    (made,) = (tmp_path / "tacoskip").iterdir()
    written = made.stat().st_mtime_ns
    assert native._found.__wrapped__()[0] is not None
    assert made.stat().st_mtime_ns == written
