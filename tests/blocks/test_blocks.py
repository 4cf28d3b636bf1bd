"""What every block promises, for every family and every fitting combination of the axes."""

import re

import pytest
import torch
from torch import nn

from tacoskip.blocks import (
    BLOCKS,
    SKIPS,
    TOPOLOGIES,
    TRANSFORMS,
    build_block,
    check_contract,
    sparsity,
)
from tacoskip.masks import lengths_to_mask

LENGTHS = torch.tensor([9, 5, 2])
MASK = lengths_to_mask(LENGTHS)
BY_TRANSFORM = {family.transform: name for name, family in BLOCKS.items()}


def options(topology: str) -> dict[str, int]:
    """A growth that groups divide."""
    return {"growth": 4} if topology == "dense" else {}


def randomized(block: nn.Module) -> nn.Module:
    """Move every parameter off its start, where some are zero."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter) + 0.05)
    return block


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_fitting_combinations_keep_the_contract(transform: str, topology: str) -> None:
    """Every skip in chains; in other topologies that take any, each with some transforms."""
    torch.manual_seed(0)
    name, skips = BY_TRANSFORM[transform], list(SKIPS.values())
    if topology != "chain":
        skips = skips[list(TRANSFORMS).index(transform) % 4 :: 4]
    for skip in TOPOLOGIES[topology].joins or skips:
        stack = build_block(name, 8, 3, skip.name, topology, **options(topology))
        check_contract(randomized(stack), 8)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    block = randomized(build_block(name, 8, 4))
    for _ in range(20):  # once, all stochastic units may drop out or hard gates be clamped
        loss = (block(torch.randn(3, 9, 8), MASK) * torch.randn(8)).square().sum()
        price = sparsity(block)
        (loss if price is None else loss + price).backward()
    without = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    # A softmax ignores what is added to every score; a normalisation removes a bias.
    assert [n for n in without if not n.endswith(("phi.bias", "out.bias"))] == []


@pytest.mark.parametrize("name", BLOCKS)
def test_more_padding_changes_nothing_in_training(name: str) -> None:
    outputs, gradients, statistics = [], [], []
    for extra in (0, 6):
        torch.manual_seed(0)
        block = randomized(build_block(name, 8, 3).double())
        x = torch.randn(3, 9, 8, dtype=torch.float64)
        x = nn.functional.pad(x, (0, 0, 0, extra), value=7.0)
        torch.manual_seed(1)
        output = block(x, lengths_to_mask(LENGTHS, 9 + extra))
        output.square().sum().backward()
        outputs.append(output[:, :9].detach())
        gradients.append([p.grad for p in block.parameters() if p.grad is not None])
        statistics.append(dict(block.named_buffers()))
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(statistics[0], statistics[1])


@pytest.mark.parametrize("name", [name for name, family in BLOCKS.items() if family.identity])
def test_identity_families_return_their_input_at_first(name: str) -> None:
    x = torch.randn(3, 9, 8).masked_fill(~MASK[:, :, None], 0.0)
    torch.testing.assert_close(build_block(name, 8, 6)(x, MASK), x)


def test_depth_zero_returns_the_input() -> None:
    x = torch.randn(2, 3, 4)
    mask = torch.ones(2, 3, dtype=torch.bool)
    for topology in TOPOLOGIES:
        assert torch.equal(build_block("residual", 4, 0, topology=topology)(x, mask), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("higway", 4, 1), "unknown block 'higway'; did you mean 'highway'"),
        (("residual", 4, 1, "gatd"), "unknown skip 'gatd'; did you mean 'gated'"),
        (("residual", 4, 1, "", "chian"), "unknown topology 'chian'; did you mean 'chain'"),
        (("dense", 4, 1, "add"), "dense joins by concat, got 'add': its units read"),
        (("residual", 4, 1, "gated", "reversible"), "only a sum can be taken back"),
        (("reversible", 5, 1), "even width to halve, got 5"),
        (("shuffle", 6, 1), "its 4 groups divide, got 6"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_reason(arguments: tuple, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        build_block(*arguments)


def test_options_reach_their_part() -> None:
    with pytest.raises(ValueError, match="has no option 'kernel'"):
        build_block("residual", 4, 1, kernel=5)
    with pytest.raises(ValueError, match="expected pairwise of gaussian"):
        build_block("nonlocal", 4, 1, pairwise="gausian")
    with pytest.raises(ValueError, match="Add joins equal widths, got 4 and 8"):
        build_block("residual", 4, 2, stages=2)
    wide = build_block("residual", 4, 1, kernel_size=7)
    assert wide.units[0].transform.conv1.kernel_size == (7,)  # type: ignore[index,union-attr]
    gate = build_block("highway", 4, 1, skip_gate_bias=-3.0)
    assert gate.units[0].skip.gate.bias[0].item() == -3  # type: ignore[index,union-attr,arg-type]
    # The options of the family's own skip do not reach another one.
    assert build_block("rezero", 4, 1, skip="add") is not None


@pytest.mark.parametrize("name", BLOCKS)
def test_every_family_names_its_formula_and_source(name: str) -> None:
    formula, source = BLOCKS[name].described()
    assert "(x)" in formula
    assert re.search(r"(19|20)\d\d$", source), f"expected a paper with its year, got {source!r}"


@pytest.mark.parametrize("pairwise", ["gaussian", "embedded", "dot", "concatenation"])
def test_pairwise_functions_of_nonlocal_keep_the_contract(pairwise: str) -> None:
    torch.manual_seed(0)
    check_contract(randomized(build_block("nonlocal", 8, 2, pairwise=pairwise)), 8)


def test_dynamic_runs_the_transform_for_chosen_examples_only() -> None:
    torch.manual_seed(0)
    unit = build_block("dynamic", 4, 1).eval().units[0]  # type: ignore[index]
    unit.skip.chance = lambda x, mask: torch.tensor([0.9, 0.1, 0.9])
    seen: list[int] = []
    unit.transform.register_forward_hook(lambda m, inputs, out: seen.append(len(inputs[0])))
    x = torch.randn(3, 9, 4).masked_fill(~MASK[:, :, None], 0.0)
    y = unit(x, MASK)
    assert seen == [2]
    assert torch.equal(y[1], torch.relu(x[1]))
    unit.skip.chance = lambda x, mask: torch.tensor([0.1, 0.1, 0.1])
    unit(x, MASK)
    assert seen == [2]


def test_stochastic_survival_falls_with_depth() -> None:
    block = build_block("stochastic", 4, 4)
    survival = [unit.skip.survival for unit in block.units]  # type: ignore[union-attr]
    assert survival == pytest.approx([0.875, 0.75, 0.625, 0.5])
