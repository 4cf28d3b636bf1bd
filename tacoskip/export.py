"""The work of `tacoskip export`: a run as ONNX graphs, held to the network that they were made from.

A voice becomes three graphs, encoder, decoder step and post-net, a listener one (`exported.py` says
what they take and give). They are traced: torch.onnx's other way freezes the time of a GRU at the
example's. Units that a gate has closed are gone before (`load` removes them). B batch, S symbols, T
mel frames, M mels.
"""

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacoskip.config import to_dict
from tacoskip.data.corpus import Corpus
from tacoskip.data.errors import CorpusError
from tacoskip.data.joining import cut_wave, spoken
from tacoskip.error_rates import NONE, character_errors
from tacoskip.evaluate_listener import utterances
from tacoskip.exported import MANIFEST, STATE, Manifest, session
from tacoskip.exported import run as run_graph
from tacoskip.inference import Speech, Voice, load
from tacoskip.listening.listener import Listener
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import DynamicConvolution
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import RunError
from tacoskip.text.letters import plain_words

OPSET = 17
# Largest difference to torch that passes, relative to the largest value. Sums run in another order.
TOLERANCE = 1e-3
# Sizes of the examples: recorded, and held to torch.
RECORDED, HELD = (2, 11), (3, 29)
TIMED = 15
# Weights of 8 bits are kept where they are smaller and take at most this share of the time.
PAYS = 0.95
# What is said, and how many clips are heard, to see what an exported run has lost.
SENTENCE, CLIPS = "One two three four five six seven eight nine.", 50


@dataclass
class Graph:
    """A part of a network that becomes a file. example: inputs for a batch and a length. sizes: the
    names of an input's or output's sizes that are free.
    """

    name: str
    module: nn.Module
    inputs: list[str]
    outputs: list[str]
    example: Callable[[int, int], tuple[Tensor, ...]]
    sizes: dict[str, dict[int, str]]


def export(run: str | Path, folder: Path, int8: bool = False) -> dict[str, Any]:
    """Write a run's graphs and its export.json into `folder`; return what they were measured to be.

    int8: each graph also with weights of 8 bits, kept instead where that pays. The result has for
    each graph bytes, ms, torch's ms and the largest relative difference to torch, bytes, ms and
    difference of int8, and which was kept; then what `compare_voices` or `compare_listeners` found
    of the whole. Raises ValueError when onnx is not installed, RunError for what cannot be
    exported, RuntimeError for a graph that differs from its network.
    """
    _require()
    loaded = load(run, "cpu")
    check(loaded)
    model = loaded.model.eval()
    graphs = voice_graphs(model) if isinstance(model, Tacotron) else listener_graphs(model)
    folder.mkdir(parents=True, exist_ok=True)
    figures, files = {}, {}
    for graph in graphs:
        path = folder / f"{graph.name}.onnx"
        write(graph, path)
        figures[graph.name] = measure(graph, path, int8)
        files[graph.name] = path.name
    manifest = folder / MANIFEST
    text = json.dumps(asdict(_manifest(loaded, files)), indent=2, ensure_ascii=False)
    manifest.write_text(text + "\n", encoding="utf-8")
    result = {"run": str(run), "out": str(folder), "graphs": figures}
    again = load(folder)
    if isinstance(loaded, Voice):
        assert isinstance(again, Voice)
        return result | {"task": "tts"} | compare_voices(loaded, again)
    assert isinstance(again, Listener)
    return result | {"task": "asr"} | compare_listeners(loaded, again)


def check(loaded: Voice | Listener) -> None:
    """Raise RunError for a network whose graph would not be the network."""
    model = loaded.model
    if isinstance(model, Recognizer) and model.speller is not None:
        raise RunError("expected a listener with asr.decoder=ctc to export, got attention")
    if isinstance(model, Tacotron) and isinstance(model.decoder.attention, DynamicConvolution):
        # ONNX has no convolution whose kernels differ from item to item.
        raise RunError("expected another attention to export, got dynamic_convolution")


class EncoderGraph(nn.Module):
    """symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, and with speakers their vector."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, ...]:
        model, mask = self.model, lengths_to_mask(lengths, symbols.shape[1])
        memory, shown = model.encoder(symbols, mask), ()
        if model.speaker_memory is not None:
            speaker = model.speakers(speakers)
            memory = memory + torch.tanh(model.speaker_memory(speaker))[:, None]
            shown = (speaker,)
        memory = memory.masked_fill(~mask[:, :, None], 0.0)
        return memory, model.decoder.attention.keys(memory), *shown


class StepGraph(nn.Module):
    """The last frame (B, M), what stays and the state -> mel (B, R, M), stop (B,), the next state."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.decoder, self.reduction = model.decoder, model.reduction
        self.shown = model.speakers.embedding_dim

    def forward(
        self, frame: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        if self.shown:
            frame, rest = torch.cat([frame, rest[0]], 1), rest[1:]
        hidden, context, first, second, *attention = rest
        mask = lengths_to_mask(lengths, memory.shape[1])
        prenet = self.decoder.prenet(frame)
        hidden, context, state = self.decoder.attend(
            prenet, hidden, context, memory, keys, mask, tuple(attention)
        )
        mel, stop, after = self.decoder.expand(
            hidden[:, None], context[:, None], self.reduction, [first[None], second[None]]
        )
        grus = [one[0] for one in after if one is not None]
        return mel, stop[:, 0], hidden, context, *grus, *state


class PostnetGraph(nn.Module):
    """mel (B, T, M) as the decoder makes it, lengths (B,) -> mel, linear: log10 magnitudes."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        model, mask = self.model, lengths_to_mask(lengths, mel.shape[1])
        mel = mel.masked_fill(~mask[:, :, None], 0.0)
        return model.restore(mel, model.linear(model.postnet(mel, mask)))


class ListenerGraph(nn.Module):
    """mel (B, T, M), lengths (B,) -> log_probs (B, L, U), lengths (B,)."""

    def __init__(self, model: Recognizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(mel, lengths)
        return output.log_probs, output.lengths


def voice_graphs(model: Tacotron) -> list[Graph]:
    """Return encoder, step and postnet of a voice."""
    decoder = model.decoder
    mels, voices = decoder.n_mels, model.speakers.num_embeddings
    speaker = ["speaker"] if model.speakers.embedding_dim else []

    def text(batch: int, length: int) -> tuple[Tensor, ...]:
        symbols = torch.randint(1, model.encoder.embedding.num_embeddings, (batch, length))
        return symbols, _lengths(batch, length), torch.arange(batch) % voices

    @torch.no_grad()
    def moment(batch: int, length: int) -> tuple[Tensor, ...]:
        """The second step: the state is no longer zeros."""
        memory, keys, *shown = EncoderGraph(model)(*text(batch, length))
        hidden, context, _, state = decoder.start(memory)
        grus = [hidden.new_zeros(batch, gru.hidden_size) for gru in decoder.grus]
        fixed = (memory, keys, _lengths(batch, length), *shown)
        frame = torch.randn(batch, mels)
        after = StepGraph(model)(frame, *fixed, hidden, context, *grus, *state)
        return (after[0][:, -1], *fixed, *after[2:])

    states = len(decoder.start(torch.zeros(1, 2, model.encoder.out_channels))[3])
    names = [*STATE, *(f"attention{i}" for i in range(states))]
    following = [f"next_{name}" for name in names]
    of_batch, of_time = {0: "batch"}, {0: "batch", 1: "symbols"}
    moving = [of_batch] * len(STATE) + [
        of_batch if size else of_time for size in _state_sizes(model)
    ]
    encoder = Graph(
        "encoder",
        EncoderGraph(model),
        ["symbols", "lengths", "speakers"],
        ["memory", "keys", *speaker],
        text,
        {"symbols": of_time, "lengths": of_batch, "speakers": of_batch}
        | {"memory": of_time, "keys": of_time}
        | dict.fromkeys(speaker, of_batch),
    )
    step = Graph(
        "step",
        StepGraph(model),
        ["frame", "memory", "keys", "lengths", *speaker, *names],
        ["mel", "stop", *following],
        moment,
        {"frame": of_batch, "memory": of_time, "keys": of_time, "lengths": of_batch}
        | dict.fromkeys([*speaker, "mel", "stop"], of_batch)
        | dict(zip([*names, *following], moving * 2, strict=True)),
    )
    of_frames = {0: "batch", 1: "frames"}
    postnet = Graph(
        "postnet",
        PostnetGraph(model),
        ["mel", "lengths"],
        ["log_mel", "log_linear"],
        lambda batch, length: (torch.randn(batch, length, mels), _lengths(batch, length)),
        {"mel": of_frames, "lengths": of_batch, "log_mel": of_frames, "log_linear": of_frames},
    )
    return [encoder, step, postnet]


def listener_graphs(model: Recognizer) -> list[Graph]:
    """Return the one graph of a listener."""

    def mels(batch: int, length: int) -> tuple[Tensor, ...]:
        noise = torch.randn(batch, 4 * length, model.n_mels) - 3
        return noise, _lengths(batch, 4 * length)

    of_batch, of_frames = {0: "batch"}, {0: "batch", 1: "frames"}
    sizes = {"mel": of_frames, "lengths": of_batch}
    sizes |= {"log_probs": {0: "batch", 1: "steps"}, "steps": of_batch}
    graph = ListenerGraph(model)
    return [Graph("network", graph, ["mel", "lengths"], ["log_probs", "steps"], mels, sizes)]


def write(graph: Graph, path: Path) -> None:
    """Trace a graph into a file; RunError, in one line, where it cannot be."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, about sizes that are checked only once
        try:
            torch.onnx.export(
                graph.module.eval(),
                graph.example(*RECORDED),
                str(path),
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_axes=graph.sizes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # whatever the exporter has no operator for
            reason = str(error).strip().split("\n")[0]
            raise RunError(f"{graph.name} cannot be exported: {reason}") from None


def measure(graph: Graph, path: Path, int8: bool) -> dict[str, Any]:
    """Hold a graph to its network on sizes that it was not recorded with, and time it.

    With `int8`, do so for weights of 8 bits as well and keep them where that pays. Raises
    RuntimeError when the graph is not the network.
    """
    inputs = graph.example(*HELD)
    feeds = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
    with torch.no_grad():
        wanted = [x.numpy() for x in graph.module(*inputs)]
    graph_run = partial(run_graph, session(path), feeds)
    far = difference(graph_run(), wanted)
    if far > TOLERANCE:
        raise RuntimeError(f"{path}: differs from the network by {far:.2g}, expected {TOLERANCE}")

    @torch.inference_mode()
    def by_torch() -> object:
        return graph.module(*inputs)

    runs: dict[str, Callable[[], object]] = {"torch": by_torch, "fp32": graph_run}
    result: dict[str, Any] = {"bytes": path.stat().st_size, "difference": far}
    with tempfile.TemporaryDirectory(dir=path.parent) as room:
        small = Path(room) / path.name
        if int8:
            quantize(path, small)
            runs["int8"] = small_run = partial(run_graph, session(small), feeds)
        spent = _in_turn(runs)
        result |= {"ms": spent["fp32"], "torch_ms": spent["torch"], "kept": "fp32"}
        if int8:
            result["int8"] = {
                "bytes": small.stat().st_size,
                "difference": difference(small_run(), wanted),
                "ms": spent["int8"],
            }
            smaller = result["int8"]["bytes"] < result["bytes"]
            if smaller and spent["int8"] < PAYS * spent["fp32"]:
                small.replace(path)
                result["kept"] = "int8"
    return result


def compare_voices(voice: Voice, exported: Voice) -> dict[str, float]:
    """Speak `SENTENCE` with both: how far their mels are apart in dB (mean and largest, over the
    frames that both have), frames of each, and seconds of work a second of speech.
    """
    found = {}
    for name, one in (("torch", voice), ("exported", exported)):
        one.synthesize(SENTENCE)  # the first call pays for threads and buffers
        began = time.perf_counter()
        speech = one.synthesize(SENTENCE)
        assert isinstance(speech, Speech)
        found[name] = speech.mel, (time.perf_counter() - began) / speech.seconds
    (ours, work), (theirs, their_work) = found["torch"], found["exported"]
    count = min(len(ours), len(theirs))
    apart = 20 * np.abs(ours[:count] - theirs[:count])
    return {
        "mel_difference_db": float(apart.mean()),
        "mel_difference_db_max": float(apart.max()),
        "torch_frames": len(ours),
        "frames": len(theirs),
        "torch_rtf": work,
        "rtf": their_work,
    }


def compare_listeners(listener: Listener, exported: Listener) -> dict[str, float]:
    """Character error rate of both on at most `CLIPS` test clips of the run's corpus, and seconds
    of work a second of speech; nothing where that corpus is not prepared here.
    """
    config = listener.config
    try:
        corpus = Corpus.of(config.data, config.audio, config.text)
        cuts = utterances(corpus, "test", CLIPS, (1, 1), config.data.max_seconds)
    except (CorpusError, ValueError):
        return {}
    waves = [cut_wave(cut) for cut in cuts]
    said = [plain_words(spoken(cut), normalized=True) for cut in cuts]
    seconds = sum(map(len, waves)) / listener.sample_rate
    result: dict[str, float] = {"clips": len(cuts)}
    for name, one in (("torch_", listener), ("", exported)):
        one.transcribe(waves[0])
        began = time.perf_counter()
        heard = [transcript.text for transcript in one.transcribe_waves(waves)]
        result[f"{name}rtf"] = (time.perf_counter() - began) / seconds
        errors = sum(map(character_errors, said, heard), NONE)
        result[f"{name}cer"] = errors.rate
    return result


def quantize(path: Path, small: Path) -> None:
    """Write a graph whose matrix products and convolutions have weights of 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it names every tensor of integers that it leaves alone
    try:
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)


def difference(found: dict[str, NDArray[Any]], wanted: list[NDArray[Any]]) -> float:
    """Largest absolute difference of any output, relative to that output's largest value."""
    return max(
        float(np.abs(f - w).max() / max(1e-6, np.abs(w).max()))
        for f, w in zip(found.values(), wanted, strict=True)
    )


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'tacoskip[export]'") from None


def _lengths(batch: int, length: int) -> Tensor:
    """The first item is full, the next ones shorter."""
    return torch.tensor([length - (2 * i) % length for i in range(batch)])


def _state_sizes(model: Tacotron) -> list[int]:
    """Width of each tensor of the attention's state; 0 for as many as there are symbols."""
    first, second = (
        model.decoder.start(torch.zeros(1, length, model.encoder.out_channels))[3]
        for length in (2, 3)
    )
    return [0 if a.shape != b.shape else a.shape[1] for a, b in zip(first, second, strict=True)]


def _manifest(loaded: Voice | Listener, files: dict[str, str]) -> Manifest:
    config = to_dict(loaded.config)
    if isinstance(loaded, Listener):
        units = getattr(loaded.vocabulary, "model", "")
        symbols = list(loaded.vocabulary.symbols)
        return Manifest(config, symbols, [], 0.0, units, 0, files, [], [], False)
    model = loaded.model
    with torch.no_grad():
        memory = torch.zeros(1, 2, model.encoder.out_channels)
        hidden, context, _, state = model.decoder.start(memory)
    widths = [hidden.shape[1], context.shape[1], *(g.hidden_size for g in model.decoder.grus)]
    return Manifest(
        config,
        loaded.tokenizer.symbols,
        loaded.speakers,
        loaded.frames_per_symbol,
        "",
        model.reduction,
        files,
        widths,
        _state_sizes(model),
        bool(state[0][0, 0] == 1),
    )


def _in_turn(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each, run one after another `TIMED` times."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(TIMED + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number:  # the first call pays for buffers
                spent[name].append(1000 * (time.perf_counter() - began))
    return {name: float(np.median(times)) for name, times in spent.items()}


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return what `export` measured of each graph as rows of text."""
    found = []
    for name, graph in result["graphs"].items():
        for kind in ("fp32", "int8"):
            one = graph if kind == "fp32" else graph.get("int8")
            if one:
                found.append(
                    [
                        f"{name}, {kind}" + (", kept" if graph["kept"] == kind else ""),
                        f"{one['bytes'] / 1e6:.2f}",
                        f"{one['ms']:.2f}",
                        f"{graph['torch_ms'] / one['ms']:.2f}",
                        f"{one['difference']:.1e}",
                    ]
                )
    return found


def summary(result: dict[str, Any]) -> str:
    """Say in one line what the exported run loses and gains as a whole."""
    if "rtf" not in result:
        return "the run's corpus is not prepared here: no error rate was measured"
    faster = f"{result['torch_rtf'] / result['rtf']:.2f} times as fast as torch"
    if result["task"] == "asr":
        rates = f"cer {result['cer']:.2%}, with torch {result['torch_cer']:.2%}"
        return f"{rates}, {result['clips']} clips; {faster}"
    return (
        f"mel {result['mel_difference_db']:.3f} dB from torch's (at most "
        f"{result['mel_difference_db_max']:.2f}), {result['frames']} frames of "
        f"{result['torch_frames']}; text to wave {faster}"
    )
