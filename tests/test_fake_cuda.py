"""A whole training step on a GPU that is not there.

FakeTensorMode gives tensors of device "cuda" shapes, dtypes and devices without memory: it finds
operations on two devices, and every point where the host would wait for the device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tacoskip.audio import AudioSettings, FrontEnd
from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.kernels.accelerate import accelerate
from tacoskip.run_folder import build_recognizer, build_tacotron
from tacoskip.training import losses
from tacoskip.training.features import DeviceFeatures
from tacoskip.training.settings import TrainSettings
from tacoskip.training.state import new_optimizer

aten = torch.ops.aten
HOST_READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default}
SMALL = ["data.corpus=folder", "cbhg.bank_size=3", "cbhg.depth=1"]
# What torch refuses on a GPU in deterministic mode, as far as networks and losses could use it.
REFUSED = {
    *(aten._ctc_loss.Tensor, aten._ctc_loss_backward.Tensor, aten.nll_loss_forward.default),
    *(aten.reflection_pad1d_backward.default, aten.upsample_linear1d_backward.default),
    *(aten.median.dim, aten.histc.default, aten.put_.default),
}
# What a step may make: CTC takes lengths and symbols to the host.
SYNCS = {"voice": 0, "recognizer": 1}


class Watch(TorchDispatchMode):
    """Notes where the host reads the device, operations in float16, and those of REFUSED."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs: list[str] = []
        self.halves: list[str] = []
        self.refused: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in args if isinstance(x, Tensor)]
        on_gpu = any(x.device.type == "cuda" for x in tensors)
        if func in REFUSED and tensors[0].device.type == "cuda":
            self.refused.append(str(func))
        if func in (aten._use_cudnn_ctc_loss.Tensor, aten._use_miopen_ctc_loss.Tensor):
            return False
        if func is aten._ctc_loss.Tensor:
            steps, batch, _ = args[0].shape
            longest = 2 * args[1].shape[1] + 1
            return args[0].new_empty(batch), args[0].new_empty(batch, steps, longest)
        if func is aten._ctc_loss_backward.Tensor:
            return torch.empty_like(args[1])
        if func is aten._thnn_fused_gru_cell.default:
            state = args[2]
            return torch.empty_like(state), state.new_empty(len(state), 5 * state.shape[1])
        if func is aten._thnn_fused_gru_cell_backward.default:
            return gru_cell_gradients(*args)
        if func in HOST_READS and on_gpu:
            self.syncs.append(str(func))
            if func is aten._local_scalar_dense.default:
                return 1.0 if tensors[0].is_floating_point() else 1
        target = kwargs.get("device")
        if (
            func is aten._to_copy.default
            and on_gpu
            and target
            and torch.device(target).type == "cpu"
        ):
            self.syncs.append(str(func))
        result = func(*args, **kwargs)
        results = result if isinstance(result, (tuple, list)) else [result]
        if any(isinstance(x, Tensor) and x.dtype == torch.float16 for x in results):
            self.halves.append(str(func))
        return result


def gru_cell_gradients(d_state: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Any, ...]:
    """Shapes of what torch's fused GRU cell, which has none for fake tensors, gives back."""
    batch, channels = d_state.shape
    gates, bias = d_state.new_empty(batch, 3 * channels), d_state.new_empty(3 * channels)
    biases = (bias, bias.clone()) if has_bias else (None, None)
    return gates, gates.clone(), torch.empty_like(d_state), *biases


def backward(loss: Tensor) -> None:
    """As loss.backward(), whose engine does not run without a GPU."""
    waiting: dict[Any, int] = {}  # gradients that a node still waits for
    stack = [loss.grad_fn]
    seen = {loss.grad_fn}
    while stack:
        for node, _ in stack.pop().next_functions:  # type: ignore[union-attr]
            if node is not None:
                waiting[node] = waiting.get(node, 0) + 1
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
    buffers: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = [loss.grad_fn]
    while ready:
        node: Any = ready.pop()
        given = buffers.pop(node, {})
        if hasattr(node, "variable"):
            node.variable.grad = reduced(given[0], node.variable).detach()
            continue
        inputs = [
            reduced(given[i], about) if i in given else zeros(about)
            for i, about in enumerate(node._input_metadata)
        ]
        call = node.apply if hasattr(node, "_forward_cls") else node
        results = call(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) > len(node.next_functions):  # only tensors have a next function
            results = [
                r for r, needed in zip(results, node.needs_input_grad, strict=True) if needed
            ]
            edges = [edge for edge in node.next_functions if edge[0] is not None]
        else:
            edges = node.next_functions
        for (following, index), result in zip(edges, results, strict=False):
            if following is None:
                continue
            if result is not None:
                kept = buffers.setdefault(following, {})
                kept[index] = kept[index] + result if index in kept else result
            waiting[following] -= 1
            if not waiting[following] and (following in buffers):
                ready.append(following)


def reduced(gradient: Tensor, about: Any) -> Tensor:
    """A gradient summed where its tensor was broadcast, in its tensor's dtype."""
    return gradient.sum_to_size(about.shape).to(about.dtype)


def zeros(about: Any) -> Tensor | None:
    if about.is_nested_tensor or about.shape is None:
        return None
    return torch.zeros(about.shape, dtype=about.dtype, device=about.device)


def check_autocast(module: nn.Module, inputs: Any) -> None:
    """A cuDNN GRU under autocast runs in float16, whatever the dtype."""
    assert not torch.is_autocast_enabled("cuda"), type(module)


@contextmanager
def bf16_autocast() -> Iterator[None]:
    """As torch.autocast, which disables itself where there is no GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def lengths(*values: int) -> Tensor:
    return torch.tensor(values).to("cuda")


def voice(overrides: list[str]) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    config = load_config("base/tts", [*SMALL, "postnet.bank_size=3", *overrides])
    model = build_tacotron(config, 30, 2)

    def loss(model: Any) -> Tensor:
        symbols, frames = lengths(9, 6, 7), lengths(20, 14, 17)
        mel = torch.randn(3, 20, config.audio.n_mels, device="cuda")
        linear = torch.randn(3, 20, config.audio.n_bins, device="cuda")
        mel, linear = model.standardize(mel, linear)
        text = torch.ones(3, 9, dtype=torch.long, device="cuda")
        durations = 2 * text
        out = model(text, symbols, mel, frames, lengths(0, 1, 0), durations)
        reduction = model.reduction
        total = losses.masked_l1(out.mel, mel, frames)
        total = total + losses.masked_l1(out.linear, linear, frames)
        if out.log_durations is not None:
            return total + losses.duration_loss(out.log_durations, durations, symbols)
        return (
            total
            + losses.stop_loss(out.stop_logits, frames, reduction)
            + losses.guided_attention_loss(out.alignments, frames, symbols, reduction)
        )

    return model, loss


def recognizer(overrides: list[str]) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    config = load_config("base/asr", [*SMALL, *overrides])
    model = build_recognizer(config, 30)

    def loss(model: Any) -> Tensor:
        mel = torch.randn(3, 40, config.audio.n_mels, device="cuda")
        text, text_lengths = torch.ones(3, 5, dtype=torch.long, device="cuda"), lengths(5, 3, 4)
        out = model(mel, lengths(40, 30, 36), text)
        total = losses.ctc_loss(out.log_probs, out.lengths, text, text_lengths)
        if out.spelled is not None:
            total = total + losses.spelling_loss(out.spelled, text, text_lengths)
        return total

    return model, loss


STEPS = [
    (voice, ["tts.attention=durations"]),
    (voice, ["tts.attention=forward"]),
    (voice, ["tts.attention=bahdanau"]),
    (voice, ["tts.attention=gmm"]),
    (recognizer, []),
    (recognizer, ["asr.decoder=attention"]),
]


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize(("build", "overrides"), STEPS)
def test_training_step_on_fake_gpu(
    build: Callable[..., Any], overrides: list[str], kernels: bool
) -> None:
    watch = watched_step(build, overrides, kernels)
    assert watch.halves == []
    assert len(watch.syncs) <= SYNCS[build.__name__], watch.syncs
    assert set(watch.refused) <= {str(aten._ctc_loss.Tensor), str(aten._ctc_loss_backward.Tensor)}


def test_deterministic_recognizer_on_fake_gpu() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        watch = watched_step(recognizer, ["asr.decoder=attention"], kernels=False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert watch.refused == []


def watched_step(build: Callable[..., Any], overrides: list[str], kernels: bool) -> Watch:
    """One training step in bf16 on the fake GPU."""
    model, loss = build(overrides)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to("cuda").train()
        if kernels:
            accelerate(model, torch.device("cuda"), torch.bfloat16)
        for module in model.modules():
            if type(module) in (nn.GRU, nn.GRUCell):
                module.register_forward_pre_hook(check_autocast)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
        with Watch() as watch:
            with bf16_autocast():
                value = loss(model)
            backward(value)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
    assert value.device.type == "cuda"
    assert all(p.grad is None or p.grad.device == p.device for p in model.parameters())
    return watch


def test_optimizer_of_a_resumed_run_does_not_wait() -> None:
    """Checkpoints are read to the CPU; the steps of AdamW must go back to the GPU."""
    model = nn.Linear(4, 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to("cuda")
        optimizer = new_optimizer(model, TrainSettings())
        assert optimizer.defaults["fused"]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        saved = optimizer.state_dict()
        for state in saved["state"].values():
            state.update({name: value.to("cpu") for name, value in state.items()})
        resumed = new_optimizer(model, TrainSettings())
        resumed.load_state_dict(saved)
        with Watch() as watch:
            resumed.step()
    assert all(x.device.type == "cuda" for one in resumed.state.values() for x in one.values())
    assert watch.syncs == []


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
@pytest.mark.parametrize("linear", [True, False])
def test_features_on_fake_gpu(dtype: torch.dtype, linear: bool) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=16000))
    with FakeTensorMode(allow_non_fake_inputs=True):
        features = DeviceFeatures(front_end, "cuda", linear)
        samples, counts = torch.zeros(3, 8000, dtype=dtype).to("cuda"), lengths(8000, 4100, 7999)
        text, none = torch.ones(3, 5, dtype=torch.long).to("cuda"), torch.empty(3, 41, 0)
        shape = {"samples": samples, "sample_lengths": counts}
        batch = Batch(text, counts, none, none, lengths(41, 21, 40), counts, [], [], **shape)
        with Watch() as watch:
            found = features(batch)
    assert found.mel.device.type == found.linear.device.type == "cuda"
    assert found.mel.shape == (3, 41, 80) and found.mel.dtype == torch.float32
    assert found.linear.shape == (3, 41, front_end.settings.n_bins if linear else 0)
    assert watch.syncs == []
