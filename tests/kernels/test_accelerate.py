"""The table of replacements, walked: every entry against the plain module in float64."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d, SameConv1d
from tacoskip.kernels import accelerate as module
from tacoskip.kernels import cpu
from tacoskip.kernels.accelerate import accelerate, describe, plain
from tacoskip.kernels.cpu import networks
from tacoskip.kernels.cpu.networks import has_kernels
from tacoskip.kernels.cpu.replacements import REPLACEMENTS
from tacoskip.kernels.reversible import REBUILT
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import Bahdanau
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.cbhg import BiGRU, ConvBank
from tacoskip.models.decoder import ResidualGRU
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron

LENGTHS = torch.tensor([23, 9, 1, 22, 17])
PADDED, FULL = lengths_to_mask(LENGTHS), torch.ones(5, 23, dtype=torch.bool)
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
WITHIN = {FLOAT32: 1e-5, BFLOAT16: 2e-2}

Case = tuple[Callable[[], nn.Module], Callable[[Tensor], tuple[Tensor, ...]]]


def frames(channels: int, masked: bool = True, cleared: bool = False) -> Any:
    """Inputs x (B, T, C), which may be zero at padded frames, and with masked the mask."""

    def inputs(mask: Tensor) -> tuple[Tensor, ...]:
        x = torch.randn(*mask.shape, channels)
        x = x.masked_fill(~mask[:, :, None], 0.0) if cleared else x
        return (x, mask) if masked else (x,)

    return inputs


def loop_inputs(mask: Tensor) -> tuple[Tensor, ...]:
    return torch.randn(len(mask), 13, 5), torch.randn(*mask.shape, 32), mask


def loop(attention: str) -> Case:
    return lambda: AttentionLoop(5, 32, 48, attention, 16), loop_inputs


CASES: dict[type[nn.Module], list[Case]] = {
    SameConv1d: [(lambda: SameConv1d(16, 32, 4), frames(16, masked=False))],
    MaskedConv1d: [
        (lambda: MaskedConv1d(16, 32, 3, groups=2), frames(16)),
        (lambda: MaskedConv1d(16, 32, 3, dilation=4), frames(16)),
    ],
    MaskedBatchNorm1d: [
        (lambda: MaskedBatchNorm1d(32), frames(32)),
        (lambda: MaskedBatchNorm1d(48, relu=True), frames(48)),
    ],
    ConvBank: [(lambda: ConvBank(20, 16, 4), frames(20, cleared=True))],
    BiGRU: [(lambda: BiGRU(20, 48), frames(20))],
    ResidualGRU: [(lambda: ResidualGRU(32), frames(32, masked=False))],
    AttentionLoop: [loop("bahdanau"), loop("location"), loop("forward")],
}


def test_every_entry_has_a_case() -> None:
    assert [entry.plain for entry in REPLACEMENTS] == list(CASES)
    for entry in REPLACEMENTS:
        assert entry.fast.__base__ is entry.plain
        assert entry.fast.__doc__


def walk() -> Iterator[Any]:
    for entry in REPLACEMENTS:
        for number, case in enumerate(CASES[entry.plain]):
            for dtype in (FLOAT32, BFLOAT16):
                name = f"{entry.plain.__name__}-{number}-{str(dtype)[6:]}"
                yield pytest.param(entry, case, dtype, id=name)


def outcome(model: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> list[Tensor]:
    """Outputs, gradients of inputs and parameters, and buffers; float64 for a float64 model."""
    kind = next(model.parameters()).dtype
    given = [x.to(kind).requires_grad_() if x.is_floating_point() else x for x in inputs]
    with torch.autocast("cpu", BFLOAT16, enabled=kind == FLOAT32 and dtype == BFLOAT16):
        found = model(*given)
    outputs = list(found) if isinstance(found, tuple) else [found]
    torch.manual_seed(1)
    pulls = [torch.randn(x.shape).to(x.dtype) for x in outputs]
    wanted = [x for x in (*given, *model.parameters()) if x.requires_grad]
    grads = torch.autograd.grad(outputs, wanted, pulls)
    return [x.detach().double() for x in (*outputs, *grads, *model.buffers())]


def errors(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    pairs = zip(found, expected, strict=True)
    return [float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in pairs]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mask", [FULL, PADDED], ids=["full", "padded"])
@pytest.mark.parametrize(("entry", "case", "dtype"), list(walk()))
def test_replacement_equals_plain(
    entry: Any, case: Case, dtype: torch.dtype, mask: Tensor, training: bool
) -> None:
    torch.manual_seed(0)
    build, make_inputs = case
    model, inputs = build().train(training), make_inputs(mask)
    if not entry.is_supported(model, torch.device("cpu"), dtype):
        pytest.skip("not supported on this machine")
    inputs = tuple(x.to(dtype).float() if x.is_floating_point() else x for x in inputs)
    reference, rounded = copy.deepcopy(model).double(), copy.deepcopy(model)
    fast = accelerate(model, dtype=dtype)
    assert type(fast) is entry.fast
    assert list(fast.state_dict()) == list(reference.state_dict())
    expected = outcome(reference, inputs, dtype)
    found = errors(outcome(fast, inputs, dtype), expected)
    # Rounding turns a ReLU or a maximum here and there, in the plain module as well.
    allowed = errors(outcome(rounded, inputs, dtype), expected) if dtype == BFLOAT16 else found
    for error, least in zip(found, allowed, strict=True):
        assert error <= max(WITHIN[dtype], 2 * least if dtype == BFLOAT16 else 0.0), found
    assert type(plain(fast)) is entry.plain


@pytest.mark.parametrize("entry", REPLACEMENTS, ids=lambda entry: entry.plain.__name__)
def test_replacement_without_gradient_equals_plain(entry: Any) -> None:
    for build, make_inputs in CASES[entry.plain]:
        model, inputs = build().eval(), make_inputs(PADDED)
        with torch.no_grad():
            expected, found = model(*inputs), accelerate(model)(*inputs)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["bahdanau", "location", "forward"])
@torch.no_grad()
def test_steps_equal_teacher_forcing(attention: str) -> None:
    torch.manual_seed(0)
    model = AttentionLoop(5, 32, 48, attention, 16).eval()
    inputs, memory, mask = loop_inputs(PADDED)
    expected = model(inputs, memory, mask)
    state = accelerate(model).start(memory, mask)
    for number, x in enumerate(inputs.unbind(1)):
        state = model.step(x, state)
        for part, whole in zip((state.hidden, state.context, state.weights), expected, strict=True):
            torch.testing.assert_close(part, whole[:, number], atol=1e-5, rtol=1e-4)


def network(attention: str = "forward") -> Tacotron:
    torch.manual_seed(0)
    sizes = {"bank_size": 3, "bank_channels": 16, "projection_channels": 16, "depth": 2}
    cbhg = CBHGSettings(**sizes, channels=16, gru_channels=16)  # type: ignore[arg-type]
    settings = TacotronSettings(
        embedding_channels=16,
        prenet_channels=[16, 16],
        attention=attention,
        attention_channels=16,
        attention_rnn_channels=16,
        decoder_channels=16,
    )
    return Tacotron(10, 16, 32, 1, settings, cbhg, cbhg)


def test_network_is_replaced_and_restored() -> None:
    model = network()
    kinds, keys = [type(part) for part in model.modules()], list(model.state_dict())
    parameters = list(model.parameters())
    calls: list[str] = []
    model.postnet.gru.register_forward_hook(lambda *_: calls.append("gru"))
    accelerate(model)
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    symbols, lengths = torch.ones(1, 4, dtype=torch.long), torch.tensor([4])
    model(symbols, lengths, torch.randn(1, 8, 16), torch.tensor([8]), lengths * 0)
    assert calls == ["gru"]
    assert [type(part) for part in plain(model).modules()] == kinds


def test_running_statistics_keep_no_autograd_graph() -> None:
    """Each training step would add to it, and hold the step's tensors."""
    bank = accelerate(ConvBank(20, 16, 4))
    bank(*frames(20)(PADDED)).sum().backward()
    assert not any(statistics.requires_grad for statistics in bank.norm.running())


def test_several_processes_leave_weight_gradients_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes with the same rows, so that sums double and statistics stay."""
    if not has_kernels(FLOAT32):
        pytest.skip(cpu.missing())
    model, inputs = accelerate(MaskedBatchNorm1d(32)), frames(32)(PADDED)
    expected = outcome(copy.deepcopy(model), inputs, FLOAT32)[:4]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums.mul_(2))
    model.sync = True
    torch.testing.assert_close(outcome(model, inputs, FLOAT32)[:4], expected)


def test_description_counts_and_gives_reasons() -> None:
    if not has_kernels(FLOAT32):
        pytest.skip(cpu.missing())

    class Own(Bahdanau):
        pass

    model = accelerate(network())
    assert describe(model)["AttentionLoop"] == "1 replaced"
    assert describe(model)["BiGRU"] == "2 replaced"
    loop = plain(model).decoder.loop
    loop.attention = Own(16, 32, 16)
    assert describe(accelerate(model))["AttentionLoop"] == "1 not supported here"

    class OwnGRU(BiGRU):
        pass

    model.postnet.gru = OwnGRU(16, 16)
    assert describe(accelerate(model))["BiGRU"] == "1 replaced, 1 of a subclass"
    assert type(model.postnet.gru) is OwnGRU


def test_environment_leaves_networks_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACOSKIP_KERNELS", "0")
    model = network()
    kinds = [type(part) for part in model.modules()]
    assert [type(part) for part in accelerate(model).modules()] == kinds
    assert describe(model) == {}


def test_other_devices_have_no_kernels_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.replacements(torch.device("meta")) == [REBUILT]
    monkeypatch.setitem(__import__("sys").modules, "tacoskip.kernels.triton", None)
    assert module.replacements(torch.device("cuda")) == [REBUILT]


def test_without_compiler_the_network_computes_in_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = network().eval(), torch.randn(1, 8, 16)
    given = torch.ones(1, 4, dtype=torch.long), torch.tensor([4]), x, torch.tensor([8])
    expected = model(*given, torch.tensor([0])).linear
    monkeypatch.setattr(networks, "library", lambda: None)
    accelerate(model)
    assert set(describe(model)) == {
        *("SameConv1d", "MaskedBatchNorm1d", "ConvBank", "BiGRU", "ResidualGRU"),
        "AttentionLoop",
    }
    torch.testing.assert_close(model(*given, torch.tensor([0])).linear, expected)


def test_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        torch.manual_seed(0)
        model = accelerate(BiGRU(16, 32))
        results.append(outcome(model, (torch.randn(5, 23, 16), PADDED), FLOAT32))
    assert errors(results[0], results[1]) == errors(results[0], results[2])
    assert max(errors(results[0], results[2])) == 0


def test_gates_wide_open_or_shut_and_nan() -> None:
    """Far beyond where e^x is a float, and with no number at all."""
    layer = BiGRU(4, 16)
    x = torch.randn(2, 9, 4) * 1e4
    mask = torch.ones(2, 9, dtype=torch.bool)
    with torch.no_grad():
        expected = layer(x, mask)
        torch.testing.assert_close(accelerate(layer)(x, mask), expected)
        x[1, 5, 0] = torch.nan
        found = layer(x, mask)
    assert found[1, 5:, :16].isnan().all() and found[1, :6, 16:].isnan().all()
    assert found[0].isfinite().all() and found[1, :5, :16].isfinite().all()


def operations() -> Iterator[Any]:
    """Each op of the table with arguments that need gradients."""
    torch.manual_seed(0)
    grad = {"requires_grad": True}
    lengths = torch.tensor([4, 2])
    x = torch.randn(2, 4, 16, **grad)
    weights = torch.randn(2, 48, 16, **grad), torch.randn(2, 48, **grad)
    yield (
        "gru",
        (x, lengths, *weights, torch.randn(2, 48, 16, **grad), torch.rand(2, 16, **grad), True),
    )
    shapes = [(48, 16), (48, 16), (16,), (16, 16), (16,), (16,), (16, 10), (16, 16)]
    loop = [torch.randn(shape, **grad) for shape in ((2, 3, 48), (2, 4, 16), (2, 4, 16))]
    both = [torch.randn(shape, **grad) for shape in shapes]
    yield "attention_loop", (*loop, lengths, both, True, -1)
    yield "attention_loop", (*loop, lengths, both[:6], False, -1)


@pytest.mark.parametrize(("name", "arguments"), list(operations()))
def test_operator_is_seen_through(name: str, arguments: tuple[Any, ...]) -> None:
    """Schema, autograd registration and fake tensors, as torch.compile and export need them."""
    if not has_kernels(FLOAT32):
        pytest.skip(cpu.missing())
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.tacoskip, name), arguments, test_utils=tests)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_training_step_runs_on_fake_tensors(dtype: torch.dtype) -> None:
    """Forward and backward of an accelerated network with shapes alone."""
    if not has_kernels(dtype):
        pytest.skip("no kernels of this precision")
    model = accelerate(network(), dtype=dtype)
    symbols, frames = torch.ones(2, 7, dtype=torch.long), torch.randn(2, 12, 16)
    mode = FakeTensorMode()
    for part in model.modules():
        for name, value in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(mode.from_tensor(value.detach()))
        for name, value in part.named_buffers(recurse=False):
            part._buffers[name] = mode.from_tensor(value)
    symbols, frames = mode.from_tensor(symbols), mode.from_tensor(frames)
    with mode:
        mask, mel_mask = torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 12, dtype=torch.bool)
        with torch.autocast("cpu", BFLOAT16, enabled=dtype == BFLOAT16):
            memory = model.encoder(symbols, mask)
            mel, stop, _ = model.decoder(memory, mask, frames, torch.zeros(2, 0), 2)
            linear = model.linear(model.postnet(mel, mel_mask))
        (linear.float().sum() + stop.float().sum()).backward()
    assert linear.shape == (2, 12, 32)
    trained = (model.encoder.embedding.weight, model.decoder.loop.cell.weight_hh)
    assert all(weight.grad is not None and weight.grad.shape == weight.shape for weight in trained)
