"""The probes: what they say is so, and saying it changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS, build_block
from tacoskip.blocks.skips import Add
from tacoskip.blocks.topologies.chain import Chain
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.blocks.transforms import Transform
from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings
from tacoskip.probes.activations import ActivationProbe, alphas, reuse
from tacoskip.probes.gradients import GradientProbe
from tacoskip.probes.lesions import lesions, path_lengths
from tacoskip.run_folder import checkpoints, load_checkpoint
from tacoskip.training import train

MASK = lengths_to_mask(torch.tensor([9, 5, 2]))
TINY = CBHGSettings(2, 8, 8, depth=4, channels=8, gru_channels=8)


def network(
    block: str, depth: int = 4, skip: str = "", **options: float | int | str | bool
) -> CBHG:
    """A CBHG of a family, every parameter moved off its start."""
    torch.manual_seed(0)
    more = {"growth": 4} if "dense" in block else {}
    settings = CBHGSettings(
        **{**vars(TINY), "block": block, "depth": depth, "skip": skip},
    )
    settings.block_options = {**more, **options}
    model = CBHG(8, settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def learn(model: nn.Module, probe: GradientProbe | None = None) -> Tensor:
    """One pass back and forth: gradients are left in the parameters."""
    torch.manual_seed(1)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    if probe:
        probe.watch()
    loss: Tensor = model(x, MASK).square().sum()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("name", BLOCKS)
def test_looking_changes_no_bit(name: str) -> None:
    seen = []
    for look in (False, True):
        model = network(name)
        probe = GradientProbe(model)
        loss = learn(model, probe if look else None)
        found = probe.read()["cbhg"]
        seen.append([loss, torch.get_rng_state(), *(p.grad for p in model.parameters())])
    for left, right in zip(*seen, strict=True):
        assert (left is None and right is None) or torch.equal(left, right)
    for measure in ("gradient", "gradient_transform", "gradient_skip", "gradient_weights"):
        assert len(found[measure]) == 4
        assert None not in found[measure]


@pytest.mark.parametrize("name", ["residual", "nonlocal", "highway", "gated", "concat"])
def test_gradients_are_those_of_autograd(name: str) -> None:
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
    learn(model, probe)
    found = probe.read()["cbhg"]
    expected = {
        "gradient": whole,
        "gradient_transform": through,
        "gradient_skip": [a - b for a, b in zip(whole, through, strict=True)],
    }
    for measure, gradients in expected.items():
        assert found[measure] == pytest.approx([float(g.norm()) for g in gradients])


def test_without_a_skip_nothing_goes_along_it() -> None:
    model = network("plain")
    probe = GradientProbe(model)
    learn(model, probe)
    found = probe.read()["cbhg"]
    assert found["gradient_skip"] == [0, 0, 0, 0]
    assert found["gradient"] == found["gradient_transform"]
    assert probe.read()["cbhg"].keys() == {"gradient_weights"}  # it has stopped listening


def test_a_reversible_stack_says_the_same_rebuilt_or_kept() -> None:
    found = []
    for rebuild in (True, False):
        model = network("reversible")
        assert isinstance(model.stack, Reversible)
        model.stack.rebuild = rebuild
        probe = GradientProbe(model)
        learn(model, probe)
        found.append(probe.read()["cbhg"])
    for measure, values in found[0].items():
        assert values == pytest.approx(found[1][measure])
    # What goes along the skips of a unit is all that arrives at the next.
    assert found[0]["gradient_skip"][:-1] == pytest.approx(found[0]["gradient"][1:])


def test_long_skips_of_a_unet() -> None:
    model = network("unet", skip="none")
    probe = GradientProbe(model)
    learn(model, probe)
    assert probe.read()["cbhg"]["long_skip"] == [0, 0]
    model = network("unet", skip="add")
    probe = GradientProbe(model)
    kept: list[Tensor] = []
    model.stack.units[0].register_forward_hook(lambda _, given, y: kept.append(y))
    model.stack.joins[0].register_forward_hook(lambda _, given, y: kept.append(y))
    torch.manual_seed(1)
    probe.watch()
    loss = model(torch.randn(3, 9, 8, dtype=torch.float64), MASK).square().sum()
    whole, joined = torch.autograd.grad(loss, kept)
    found = probe.read()["cbhg"]
    assert found["long_skip"][0] == pytest.approx(float(joined.norm()))  # a sum hands it on
    assert found["long_below"][0] == pytest.approx(float((whole - joined).norm()))


@pytest.mark.parametrize("name", BLOCKS)
def test_activations_count_real_frames_only(name: str) -> None:
    model = network(name).eval()
    torch.manual_seed(1)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found = []
    for extra in (0, 5):
        probe = ActivationProbe(model)
        with torch.no_grad(), probe.watching():
            padded = nn.functional.pad(x, (0, 0, 0, extra), value=9.0)
            model(padded, lengths_to_mask(torch.tensor([9, 5, 2]), 9 + extra))
        found.append(probe.read()["cbhg"])
    assert found[0].keys() == found[1].keys()
    for measure, values in found[0].items():
        assert values == pytest.approx(found[1][measure])
    assert all(value > 0 for value in [*found[0]["norm"], *found[0]["norm_before"]])
    gated = {"highway", "gated", "dynamic", "deactivable"}
    assert ("openness" in found[0]) == (name in gated)
    assert ("reach" in found[0]) == (name == "nonlocal")


def test_norms_and_gates_are_means_over_batches() -> None:
    model = network("highway", depth=1).eval()
    probe, xs = ActivationProbe(model), [torch.randn(3, 9, 8).double() for _ in range(2)]
    given: list[Tensor] = []
    model.stack.register_forward_hook(lambda _, inputs, y: given.append(inputs[0]))
    with torch.no_grad(), probe.watching():
        for x in xs:
            model(x, MASK)
    found = probe.read()["cbhg"]
    real = torch.cat([one[MASK] for one in given])
    assert found["norm_before"] == pytest.approx([float(real.square().mean().sqrt())])
    gate = torch.sigmoid(model.stack.units[0].skip.gate(real)).mean().detach()
    assert found["openness"] == pytest.approx([float(gate)])


def test_alphas() -> None:
    assert alphas(network("residual")) == {}
    assert len(alphas(network("learned"))["cbhg"]["alpha"]) == 4
    model = network("learned", depth=1, skip_per="channel")
    alpha = torch.arange(8.0)
    with torch.no_grad():
        model.stack.units[0].skip.alpha.copy_(alpha)
    assert alphas(model)["cbhg"] == {"alpha": [3.5], "alpha_min": [0], "alpha_max": [7]}


@pytest.mark.parametrize("transform", ["dense", "inverted", "shuffle", "convnext", "nonlocal"])
def test_the_reuse_map_reads_the_weights(transform: str) -> None:
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


def test_lesions_find_the_unit_that_matters() -> None:
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
def test_which_units_can_be_dropped(block: str, measured: list[int]) -> None:
    model = network(block).eval()
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found = lesions(model, [lambda: model(x, MASK).abs().mean()])
    rise = found.increase["cbhg"]
    assert [number for number, value in enumerate(rise) if value is not None] == measured
    assert ("cbhg" in found.left_out) == (len(measured) < 4)
    assert all(value for value in rise if value is not None)


def test_a_deep_stack_is_sampled() -> None:
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
def test_path_lengths_of_a_stack_whose_paths_are_known(depth: int) -> None:
    a = 0.5
    model = network("residual")
    model.stack = Chain(8, depth, lambda i, o: Scale(-a), lambda i, o, place: Add(i, o))
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found, left_out = path_lengths(model.eval(), lambda: model(x, MASK).square().sum())
    lengths = found["cbhg"]
    assert lengths.magnitude == pytest.approx([a**k for k in range(depth + 1)])
    assert lengths.mean == pytest.approx(depth * a / (1 + a))  # binomial
    assert sum(lengths.share) == pytest.approx(1)
    assert left_out == {}


@pytest.mark.parametrize("name", BLOCKS)
def test_path_lengths_of_every_family_or_the_reason(name: str) -> None:
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


def test_a_closed_unit_is_no_path() -> None:
    model = network("deactivable", depth=2).eval()
    with torch.no_grad():
        model.stack.units[0].skip.log_alpha.fill_(-9.0)
    x = torch.randn(3, 9, 8, dtype=torch.float64)
    found, _ = path_lengths(model, lambda: model(x, MASK).square().sum())
    assert found["cbhg"].magnitude[2] == 0
    assert found["cbhg"].magnitude[1] > 0


def test_a_run_is_probed_and_trains_the_same(tiny_corpus: Path, tmp_path: Path) -> None:
    weights, places = {}, {}
    for name, options in {
        "often": ["block=nonlocal", "cbhg.depth=2", "train.log_every=1"],
        "seldom": ["block=nonlocal", "cbhg.depth=2", "train.log_every=100"],
        "dense": ["block=dense", "block_options.growth=4", "train.log_every=1"],
    }.items():
        run = tmp_path / name
        settings = load_config(
            "smoke",
            [
                *(f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}", f"run={run}"),
                *("train.device=cpu", "train.max_steps=3", "train.sentences=[]"),
                *("data.validation=3", "data.test=2", *options),
            ],
        )
        prepare(settings.data, settings.audio, settings.text)
        train(settings)
        weights[name] = load_checkpoint(checkpoints(run)[-1]).training
        places[name] = json.loads((run / "probes.json").read_text())["places"]
    torch.testing.assert_close(
        weights["often"]["weights"], weights["seldom"]["weights"], atol=0, rtol=0
    )
    assert torch.equal(weights["often"]["random"], weights["seldom"]["random"])
    assert "gradient" not in places["seldom"]["encoder"]
    encoder = places["often"]["encoder"]
    assert len(encoder["gradient"]) == 2
    assert encoder["lesion"] == places["seldom"]["encoder"]["lesion"]
    assert encoder["paths"]["mean"] == encoder["path_length"][0]
    assert places["dense"]["postnet"]["reuse"][0][0][0] > 0
    assert "dense has no chain" in places["dense"]["postnet"]["paths_left_out"]

    tags = {
        name: EventAccumulator(str(tmp_path / name), size_guidance={"images": 0}).Reload().Tags()
        for name in ("often", "dense")
    }
    for tag in ("gradient/encoder/unit_00", "norm/postnet/unit_00", "lesion/encoder/unit_01"):
        assert tag in tags["often"]["scalars"]
    for tag in ("depth/encoder", "attention/encoder"):
        assert tag in tags["often"]["images"]
    for tag in ("reuse/postnet", "lesions/postnet"):
        assert tag in tags["dense"]["images"]

    before = (run / "probes.json").read_bytes()
    train(settings)  # a run that is done is not analysed again
    assert (run / "probes.json").read_bytes() == before
