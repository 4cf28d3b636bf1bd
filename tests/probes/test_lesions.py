"""Lesions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.probes.lesions import lesions

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
    rise = found["cbhg"]
    assert rise[2] == pytest.approx(0, abs=1e-12)
    assert min(rise[i] for i in (0, 1, 3)) > 1e-3
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
    rise = found["cbhg"]
    assert [number for number, value in enumerate(rise) if value is not None] == measured
    assert all(value for value in rise if value is not None)


def test_lesions_sample_a_deep_stack(network: Network) -> None:
    model = network("plain", depth=40).eval()
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    rise = lesions(model, [lambda: model(x, MASK).abs().mean()])
    measured = [i for i, value in enumerate(rise["cbhg"]) if value is not None]
    assert (len(measured), measured[0], measured[-1]) == (16, 0, 39)
