"""What every block promises, walked over the registry and over all that fits together."""

import copy

import pytest
import torch
from torch import nn

from tacoskip.blocks import BLOCKS, SKIPS, TOPOLOGIES, build_block, prune, sparsity
from tacoskip.blocks.topologies import JOINS
from tacoskip.blocks.unit import Unit
from tacoskip.masks import lengths_to_mask

LENGTHS = torch.tensor([9, 5, 2])
MASK = lengths_to_mask(LENGTHS)
FITTING = [
    (block, skip, topology)
    for block in BLOCKS
    for topology in TOPOLOGIES
    for skip in JOINS.get(topology, (tuple(SKIPS), ""))[0]
]


def options(block: str, topology: str) -> dict[str, int]:
    """Widths that groups divide, at the tests' eight channels."""
    return {"growth": 4} if topology == "dense" else {}


def awake(block: nn.Module) -> nn.Module:
    """Move every parameter off its start, where some are zero on purpose."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter) + 0.05)
    return block


def check_contract(block: nn.Module, channels: int = 8) -> None:
    x = torch.randn(3, 9, channels)
    output = block(x, MASK)
    assert output.shape == x.shape
    assert output[~MASK].abs().sum() == 0
    block.eval()
    alone = block(x[1:2, :5], MASK[1:2, :5])
    torch.testing.assert_close(block(x, MASK)[1, :5], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "skip", "topology"), FITTING)
def test_everything_that_fits_together_keeps_the_contract(
    name: str, skip: str, topology: str
) -> None:
    torch.manual_seed(0)
    check_contract(awake(build_block(name, 8, 3, skip, topology, **options(name, topology))))


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    block = awake(build_block(name, 8, 4))
    for _ in range(20):  # stochastic units may all fall out, hard gates be clamped, once
        price = (block(torch.randn(3, 9, 8), MASK) * torch.randn(8)).square().sum()
        priced = sparsity(block)
        (price if priced is None else price + priced).backward()
    silent = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    # What is added to every score of a softmax changes nothing; a normalisation takes off a bias.
    assert [n for n in silent if not n.endswith(("phi.bias", "out.bias"))] == []


@pytest.mark.parametrize("name", BLOCKS)
def test_more_padding_changes_nothing_in_training(name: str) -> None:
    outputs, gradients, statistics = [], [], []
    for extra in (0, 6):
        torch.manual_seed(0)
        block = awake(build_block(name, 8, 3).double())
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
def test_identity_at_the_start(name: str) -> None:
    x = torch.randn(3, 9, 8).masked_fill(~MASK[:, :, None], 0.0)
    torch.testing.assert_close(build_block(name, 8, 6)(x, MASK), x)


def test_depth_zero_passes_through() -> None:
    x = torch.randn(2, 3, 4)
    mask = torch.ones(2, 3, dtype=torch.bool)
    for topology in TOPOLOGIES:
        assert torch.equal(build_block("residual", 4, 0, topology=topology)(x, mask), x)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("higway", 4, 1), "unknown block 'higway'; did you mean 'highway'"),
        (("residual", 4, 1, "gatd"), "unknown skip 'gatd'; did you mean 'gated'"),
        (("residual", 4, 1, "", "chian"), "unknown topology 'chian'; did you mean 'chain'"),
        (("dense", 4, 1, "add"), "dense takes the skip concat, got 'add': its units read"),
        (("residual", 4, 1, "gated", "reversible"), "only a sum can be taken back"),
        (("reversible", 5, 1), "even width to halve, got 5"),
        (("shuffle", 6, 1), "its 4 groups divide, got 6"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(arguments: tuple, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=said):
        build_block(*arguments)


def test_options_are_known_and_reach_their_place() -> None:
    with pytest.raises(ValueError, match="has no option 'kernel'"):
        build_block("residual", 4, 1, kernel=5)
    with pytest.raises(ValueError, match="expected pairwise of gaussian"):
        build_block("nonlocal", 4, 1, pairwise="gausian")
    with pytest.raises(ValueError, match="stages change the width"):
        build_block("residual", 4, 2, stages=2)
    wide = build_block("residual", 4, 1, kernel_size=7)
    assert wide.units[0].transform.conv1.kernel_size == (7,)  # type: ignore[index,union-attr]
    gate = build_block("highway", 4, 1, skip_gate_bias=-3.0)
    assert gate.units[0].skip.gate.bias[0].item() == -3  # type: ignore[index,union-attr,arg-type]
    # A replaced skip does not inherit what the family said of its own.
    assert build_block("rezero", 4, 1, skip="add") is not None


@pytest.mark.parametrize("pairwise", ["gaussian", "embedded", "dot", "concatenation"])
def test_every_pairwise_function_of_nonlocal(pairwise: str) -> None:
    torch.manual_seed(0)
    check_contract(awake(build_block("nonlocal", 8, 2, pairwise=pairwise)))


def test_nonlocal_is_the_paper_read_plainly() -> None:
    torch.manual_seed(0)
    unit = build_block("nonlocal", 6, 1).units[0].transform.double()  # type: ignore[index,union-attr]
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    theta, phi, g = unit.theta(x)[0], unit.phi(x)[0], unit.value(x)[0]
    rows = []
    for i in range(4):
        f = [torch.exp(theta[i] @ phi[j]) for j in range(4)]
        rows.append(sum(f[j] * g[j] for j in range(4)) / sum(f))
    plain = torch.stack(rows) if isinstance(rows[0], torch.Tensor) else None
    assert plain is not None
    weights = unit.weights(x, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(weights[0] @ g, plain)
    heard = nn.functional.scaled_dot_product_attention(theta, phi, g, scale=1.0)
    torch.testing.assert_close(heard, plain)


def reversible_pair(depth: int = 5, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    torch.manual_seed(0)
    rebuilt = awake(build_block("wide", 8, depth, topology="reversible", dropout=0.4).to(dtype))
    plain = copy.deepcopy(rebuilt)
    plain.rebuild = False  # type: ignore[assignment]
    return [rebuilt, plain]


@pytest.mark.parametrize("autocast", [False, True])
def test_reversible_gradients_are_those_of_the_plain_network(autocast: bool) -> None:
    """Dropout draws again what it drew, batch statistics are counted once."""
    dtype = torch.float32 if autocast else torch.float64
    results = []
    for block in reversible_pair(dtype=dtype):
        torch.manual_seed(1)
        x = torch.randn(3, 9, 8, dtype=dtype, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = block(x, MASK)
        output.square().sum().backward()
        after = torch.rand(1)  # the generator stands where it would have stood
        gradients = [p.grad for p in block.parameters()]
        results.append((output.detach(), x.grad, gradients, dict(block.named_buffers()), after))
    tolerance = {"atol": 5e-2, "rtol": 5e-2} if autocast else {"atol": 1e-9, "rtol": 1e-7}
    for name, one, other in zip(
        ("output", "input", "parameters", "statistics", "random"), *results, strict=True
    ):
        torch.testing.assert_close(one, other, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_reversible_keeps_one_activation_however_deep() -> None:
    def kept(depth: int, rebuild: bool) -> int:
        block = build_block("reversible", 8, depth, rebuild=rebuild)
        total = 0

        def pack(x: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += 0 if isinstance(x, nn.Parameter) else x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            block(torch.randn(3, 9, 8, requires_grad=True), MASK)
        return total

    assert kept(4, True) == kept(16, True)
    assert kept(16, False) > 3 * kept(4, False) > 3 * kept(4, True)


def test_closed_units_are_taken_out_and_nothing_changes() -> None:
    torch.manual_seed(0)
    block = awake(build_block("deactivable", 8, 4)).eval()
    for i in (0, 2):
        block.units[i].skip.log_alpha.data.fill_(-4.0)  # type: ignore[index,union-attr]
    x = torch.randn(3, 9, 8)
    before = block(x, MASK)
    assert prune(block) == 2
    assert sum(isinstance(unit, Unit) for unit in block.units) == 2  # type: ignore[union-attr,arg-type]
    assert torch.equal(block(x, MASK), before)


def test_a_price_closes_gates() -> None:
    """With nothing to gain but the price, units close; the gradient reaches the gates."""
    torch.manual_seed(0)
    block = build_block("deactivable", 4, 3)
    optimizer = torch.optim.Adam([unit.skip.log_alpha for unit in block.units], lr=0.2)  # type: ignore[union-attr]
    for _ in range(60):
        block(torch.randn(3, 9, 4), MASK)
        price = sparsity(block)
        assert price is not None
        optimizer.zero_grad()
        price.backward()
        optimizer.step()
    assert prune(block.eval()) == 3
    assert sparsity(build_block("residual", 4, 3)) is None


def test_dynamic_runs_the_transform_on_chosen_examples_only() -> None:
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


def test_stochastic_units_survive_less_the_deeper_they_stand() -> None:
    block = build_block("stochastic", 4, 4)
    survival = [unit.skip.survival for unit in block.units]  # type: ignore[union-attr]
    assert survival == pytest.approx([0.875, 0.75, 0.625, 0.5])
