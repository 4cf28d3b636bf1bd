"""Norms, gates, attention, learned weights and reuse."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS, build_block
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.probes.activity import ActivityProbe
from tacoskip.probes.weights import learned_weights, reuse

Network = Callable[..., CBHG]
MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


@pytest.mark.parametrize("name", BLOCKS)
def test_measures_count_real_frames_only(network: Network, name: str) -> None:
    model = network(name).eval()
    torch.manual_seed(1)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found = []
    for extra in (0, 5):
        padded = nn.functional.pad(x, (0, 0, 0, extra), value=9.0)
        mask = lengths_to_mask(torch.tensor([9, 5, 2]), 9 + extra)
        probe = ActivityProbe(model)
        with torch.no_grad(), probe.watching():
            model(padded, mask)
        found.append(probe.read()["cbhg"])
    assert found[0].keys() == found[1].keys()
    for measure, values in found[0].items():
        assert values == pytest.approx(found[1][measure])
    assert all(value > 0 for value in [*found[0]["norm"], *found[0]["norm_before"]])
    gated = {"highway", "gated", "dynamic", "deactivable", "bypass"}
    assert ("openness" in found[0]) == (name in gated)
    assert ("reach" in found[0]) == (name == "nonlocal")


def test_norms_and_gates_are_means_over_batches(network: Network) -> None:
    model = network("highway", depth=1).eval()
    probe, inputs = ActivityProbe(model), list[Tensor]()
    model.stack.register_forward_hook(lambda _, given, y: inputs.append(given[0]))
    with torch.no_grad(), probe.watching():
        for _ in range(2):
            model(torch.randn(3, 9, 8).double(), MASK)
    real = torch.cat([x[MASK] for x in inputs])
    assert probe.read()["cbhg"]["norm_before"] == pytest.approx(
        [float(real.square().mean().sqrt())]
    )
    gate = torch.sigmoid(model.stack.units[0].skip.gate(real)).mean().detach()
    assert probe.read()["cbhg"]["openness"] == pytest.approx([float(gate)])


def test_learned_weights_of_units_and_channels(network: Network) -> None:
    assert learned_weights(network("residual")) == {"cbhg": {}}
    assert len(learned_weights(network("learned"))["cbhg"]["alpha"]) == 4
    model = network("learned", depth=1, skip_per="channel")
    alpha = torch.arange(8.0)
    with torch.no_grad():
        model.stack.units[0].skip.alpha.copy_(alpha)
    assert learned_weights(model)["cbhg"] == {"alpha": [3.5], "alpha_min": [0], "alpha_max": [7]}


@pytest.mark.parametrize("transform", ["dense", "inverted", "shuffle", "convnext", "nonlocal"])
def test_reuse_averages_the_weights_of_each_source(transform: str) -> None:
    stack = build_block(transform, 8, 3, topology="dense", growth=4)
    tables = reuse(stack)
    assert [[len(row) for row in table] for table in tables] == [[1, 2, 3, 4]]
    with torch.no_grad():  # the transition ignores the second unit's maps
        stack.transitions["2"].linear.weight.fill_(2.0)
        stack.transitions["2"].linear.weight[:, 12:16] = 0.0
    assert reuse(stack)[0][-1] == [2, 2, 0, 2]
    two = reuse(build_block("densenet", 8, 4, growth=4))
    assert [[len(row) for row in table] for table in two] == [[1, 2, 3], [1, 2, 3]]
    assert reuse(build_block("residual", 8, 2)) == []
