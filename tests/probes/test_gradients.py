"""Gradients by depth: against autograd, and without any effect on training."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS
from tacoskip.kernels.reversible import RebuiltReversible
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.probes.gradients import GradientProbe

Network = Callable[..., CBHG]
MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


def backward_pass(model: nn.Module, probe: GradientProbe | None = None) -> Tensor:
    """One training pass, which leaves gradients in the parameters; returns the loss."""
    torch.manual_seed(1)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    if probe:
        probe.watch()
    loss: Tensor = model(x, MASK).square().sum()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("name", BLOCKS)
def test_gradient_probe_changes_nothing(network: Network, name: str) -> None:
    seen = []
    for look in (False, True):
        model = network(name)
        probe = GradientProbe(model)
        loss = backward_pass(model, probe if look else None)
        found = probe.read()["cbhg"]
        seen.append([loss, torch.get_rng_state(), *(p.grad for p in model.parameters())])
    for left, right in zip(*seen, strict=True):
        assert (left is None and right is None) or torch.equal(left, right)
    for measure in ("gradient", "gradient_transform", "gradient_skip", "gradient_weights"):
        assert len(found[measure]) == 4
        assert None not in found[measure]


@pytest.mark.parametrize("name", ["residual", "nonlocal", "highway", "gated", "concat"])
def test_gradients_equal_those_of_autograd(network: Network, name: str) -> None:
    model = network(name)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, Tensor], h: Tensor) -> None:
        inputs.append(given[0])
        outputs.append(h)

    handles = [unit.transform.register_forward_hook(keep) for unit in model.stack.units]
    torch.manual_seed(1)
    loss = model(torch.randn(3, 9, 8, dtype=torch.float64), MASK).square().sum()
    for handle in handles:
        handle.remove()
    whole = torch.autograd.grad(loss, inputs, retain_graph=True)
    of_h = torch.autograd.grad(loss, outputs, retain_graph=True)
    through = [
        torch.autograd.grad(h, x, gradient, retain_graph=True)[0]
        for h, x, gradient in zip(outputs, inputs, of_h, strict=True)
    ]
    probe = GradientProbe(model)
    backward_pass(model, probe)
    found = probe.read()["cbhg"]
    expected = {
        "gradient": whole,
        "gradient_transform": through,
        "gradient_skip": [a - b for a, b in zip(whole, through, strict=True)],
    }
    for measure, gradients in expected.items():
        assert found[measure] == pytest.approx([float(g.norm()) for g in gradients])


def test_gradient_along_the_skip_is_zero_without_a_skip(network: Network) -> None:
    model = network("plain")
    probe = GradientProbe(model)
    backward_pass(model, probe)
    found = probe.read()["cbhg"]
    assert found["gradient_skip"] == [0, 0, 0, 0]
    assert found["gradient"] == found["gradient_transform"]
    assert probe.read()["cbhg"].keys() == {"gradient_weights"}  # it has stopped listening


def test_reversible_gradients_are_equal_rebuilt_or_kept(network: Network) -> None:
    found = []
    for rebuild in (True, False):
        model = network("reversible")
        if rebuild:
            model.stack.__class__ = RebuiltReversible
        probe = GradientProbe(model)
        backward_pass(model, probe)
        found.append(probe.read()["cbhg"])
    for measure, values in found[0].items():
        assert values == pytest.approx(found[1][measure])
    # What goes along the skips of a unit is all that arrives at the next.
    assert found[0]["gradient_skip"][:-1] == pytest.approx(found[0]["gradient"][1:])


def test_long_skips_of_a_unet_split_the_gradient(network: Network) -> None:
    model = network("unet", skip="none")
    probe = GradientProbe(model)
    backward_pass(model, probe)
    assert probe.read()["cbhg"]["long_skip"] == [0, 0]
    model = network("unet", skip="add")
    probe = GradientProbe(model)
    kept: list[Tensor] = []
    model.stack.units[0].register_forward_hook(lambda _, given, y: kept.append(y))
    model.stack.long_skips[0].register_forward_hook(lambda _, given, y: kept.append(y))
    torch.manual_seed(1)
    probe.watch()
    loss = model(torch.randn(3, 9, 8, dtype=torch.float64), MASK).square().sum()
    whole, joined = torch.autograd.grad(loss, kept)
    found = probe.read()["cbhg"]
    assert found["long_skip"][0] == pytest.approx(float(joined.norm()))  # a sum hands it on
    assert found["long_below"][0] == pytest.approx(float((whole - joined).norm()))
