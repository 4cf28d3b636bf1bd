"""Lesions and path lengths."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tacoskip.blocks import BLOCKS, Transform
from tacoskip.blocks.skips.fixed import Add
from tacoskip.blocks.topologies.base import Make
from tacoskip.blocks.topologies.chain import Chain
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.probes.lesions import lesions
from tacoskip.probes.paths import path_lengths

Network = Callable[..., CBHG]
MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


def test_lesions_find_units_that_matter(network: Network) -> None:
    model = network("preact").eval()
    with torch.no_grad():
        model.stack.units[2].transform.conv2.weight.zero_()  # it adds nothing
    torch.manual_seed(1)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        target = model(x, MASK)

    def loss() -> Tensor:
        return (model(x, MASK) - target).abs().mean()

    found = lesions(model, [loss, loss])
    assert found.loss == 0
    rise = found.increase["cbhg"]
    assert rise[2] == pytest.approx(0, abs=1e-12)
    assert min(rise[i] for i in (0, 1, 3)) > 1e-3
    assert found.left_out == {}
    with torch.no_grad():  # as target was made: elsewhere another GRU runs, equal to rounding
        assert float(loss()) == 0  # all units are back


@pytest.mark.parametrize(
    ("block", "measured"),
    [
        *(("plain", [0, 1, 2, 3]), ("dense", [0, 1, 2, 3]), ("reversible", [0, 1, 2, 3])),
        *(("unet", [0, 1, 2, 3]), ("resnet", [0, 1, 3]), ("zero_pad", [0, 1, 3])),
    ],
)
def test_units_that_change_the_width_are_not_dropped(
    network: Network, block: str, measured: list[int]
) -> None:
    model = network(block).eval()
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found = lesions(model, [lambda: model(x, MASK).abs().mean()])
    rise = found.increase["cbhg"]
    assert [number for number, value in enumerate(rise) if value is not None] == measured
    assert ("cbhg" in found.left_out) == (len(measured) < 4)
    assert all(value for value in rise if value is not None)


def test_lesions_sample_a_deep_stack(network: Network) -> None:
    model = network("plain", depth=40).eval()
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    rise = lesions(model, [lambda: model(x, MASK).abs().mean()])
    measured = [i for i, value in enumerate(rise.increase["cbhg"]) if value is not None]
    assert (len(measured), measured[0], measured[-1]) == (16, 0, 39)
    assert rise.left_out["cbhg"] == "16 of 40 units, spread evenly"


class Scale(Transform):
    """F(x) = a x, so that everything about paths is known."""

    def __init__(self, a: float):
        super().__init__()
        self.a = a

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.a * x


@pytest.mark.parametrize("depth", [1, 5, 40])
def test_path_lengths_equal_known_ones(network: Network, depth: int) -> None:
    a = 0.5
    model = network("residual")
    model.stack = Chain(8, depth, Make(lambda i, o: Scale(-a), Add))
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found, left_out = path_lengths(model.eval(), lambda: model(x, MASK).square().sum())
    lengths = found["cbhg"]
    assert lengths.magnitude == pytest.approx([a**k for k in range(depth + 1)])
    assert lengths.mean == pytest.approx(depth * a / (1 + a))  # binomial
    assert sum(lengths.share) == pytest.approx(1)
    assert left_out == {}


@pytest.mark.parametrize("name", BLOCKS)
def test_path_lengths_of_every_family_or_the_reason(network: Network, name: str) -> None:
    model = network(name, depth=2).eval()
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    before = [p.clone() for p in model.parameters()]
    found, left_out = path_lengths(model, lambda: model(x, MASK).square().sum())
    if name in ("plain", "dense", "densenet", "reversible", "unet"):
        assert found == {}
        assert left_out["cbhg"]
    else:
        assert 0 <= found["cbhg"].mean <= 2
        assert sum(found["cbhg"].share) == pytest.approx(1)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_closed_unit_has_no_path_through_it(network: Network) -> None:
    model = network("deactivable", depth=2).eval()
    with torch.no_grad():
        model.stack.units[0].skip.log_alpha.fill_(-9.0)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found, _ = path_lengths(model, lambda: model(x, MASK).square().sum())
    assert found["cbhg"].magnitude[2] == 0
    assert found["cbhg"].magnitude[1] > 0
