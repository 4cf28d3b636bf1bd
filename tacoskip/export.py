"""`tacoskip export`: a run as ONNX graphs that `tacoskip.load` accepts in the run's place.

A graph is a function of a network and tensors. It is traced, since torch.onnx's other exporter
fixes the length of a GRU's input, and compared with the network on other sizes.

B batch, S symbols, T mel frames, L encoder frames, M mels, R frames a decoder step, V tokens.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacoskip.blocks import for_export
from tacoskip.config import to_dict
from tacoskip.files import whole_folder, write_whole
from tacoskip.kernels.accelerate import plain
from tacoskip.loading import load
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import DynamicConvolution
from tacoskip.models.attention_loop import LoopState
from tacoskip.models.decoder import Decoder
from tacoskip.models.durations import DurationDecoder
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import EXPORT, RunError
from tacoskip.run_folder.exported import NEXT, STATE, ExportManifest, OnnxGraph, graph_hash
from tacoskip.synthesis.voice import Voice

OPSET = 17
SIZES = (2, 11), (3, 29)  # batch and length of two examples: one to trace, one to compare
# Largest difference to torch, relative to the largest value: sums run in another order.
TOLERANCE = 1e-3

Tensors = tuple[Tensor, ...]


class Graph(nn.Module):
    """A function of a model that becomes a file.

    inputs, outputs: their names, separated by spaces. example: inputs for a batch and a length.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        function: Callable[..., Tensors],
        inputs: str,
        outputs: str,
        example: Callable[[int, int], Tensors],
    ) -> None:
        super().__init__()
        self.name, self.model, self.function, self.example = name, model, function, example
        self.inputs, self.outputs = inputs.split(), outputs.split()

    def forward(self, *inputs: Tensor) -> Tensors:
        return self.function(self.model, *inputs)

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return names for the axes of inputs and outputs whose size the example decides."""
        with torch.no_grad():
            first, second = ([*x, *self(*x)] for x in (self.example(*size) for size in SIZES))
        return {
            name: {
                axis: f"{name}_length" if axis else "batch"
                for axis in range(a.ndim)
                if a.shape[axis] != b.shape[axis]
            }
            for name, a, b in zip([*self.inputs, *self.outputs], first, second, strict=True)
        }


def export(run: str | Path, folder: Path) -> dict[str, Any]:
    """Write a run's graphs and export.json into `folder`, an earlier export of which is replaced.

    The result has for each graph its bytes and the largest relative difference to torch. Raises
    ValueError when onnx is not installed or the folder holds other files, RunError for a run that
    cannot be exported, RuntimeError for a graph that differs from its network.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'tacoskip[export]'") from None
    others = [one for one in folder.glob("*") if one.name != EXPORT and one.suffix != ".onnx"]
    if others:
        raise ValueError(f"expected an empty folder or an export, got '{others[0]}'")
    loaded = load(run, "cpu")
    manifest = ExportManifest(to_dict(loaded.config), [], {}, [], [])
    if isinstance(loaded, Voice):
        manifest.symbols, manifest.speakers = loaded.tokenizer.symbols, loaded.speakers
        manifest.seen_symbols = sorted(loaded.seen_symbols)
        manifest.frames_per_symbol = loaded.frames_per_symbol
        manifest.reduction = loaded.model.reduction
    else:
        manifest.symbols = list(loaded.vocabulary.symbols)
        manifest.vocabulary = loaded.vocabulary.model
    figures = {}
    with whole_folder(folder) as part:
        for graph in graphs_of(plain(loaded.model.eval())):
            file = part / f"{graph.name}.onnx"
            write(graph, file)
            difference = compare(graph, file)
            figures[graph.name] = {"bytes": file.stat().st_size, "difference": difference}
            manifest.graphs[graph.name] = graph_hash(file)
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
        write_whole(part / EXPORT, text + "\n")
    return {"run": str(run), "out": str(folder), "graphs": figures}


def graphs_of(model: nn.Module) -> list[Graph]:
    """Return a network's graphs; RunError for a network that cannot be exported."""
    if isinstance(model, Tacotron):
        if isinstance(model.decoder, DurationDecoder):
            return duration_graphs(for_export(model))
        if isinstance(model.decoder.loop.attention, DynamicConvolution):
            # ONNX has no convolution whose kernels differ from item to item.
            raise RunError("expected another attention to export, got dynamic_convolution")
        return attention_graphs(for_export(model))
    if isinstance(model, Recognizer):
        if model.speller is not None:
            raise RunError("expected a recognizer with asr.decoder=ctc to export, got attention")
        return [recognizer_graph(for_export(model))]
    raise RunError("expected a run to export, got a folder that was exported")


def write(graph: Graph, path: Path) -> None:
    """Trace a graph into a file; RunError, in one line, where it cannot be traced."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are checked only once
        try:
            torch.onnx.export(
                graph.eval(),
                graph.example(*SIZES[0]),
                str(path),
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_axes=graph.free_axes(),
                opset_version=OPSET,
                dynamo=False,
            )
        except OSError:
            raise
        except Exception as error:  # whatever the exporter has no operator for
            reason = str(error).strip().split("\n")[0]
            raise RunError(f"{graph.name} cannot be exported: {reason}") from None


def compare(graph: Graph, path: Path) -> float:
    """Return the largest relative difference of a file to its network, on sizes not traced.

    Raises RuntimeError when they differ.
    """
    inputs = graph.example(*SIZES[1])
    feeds = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
    with torch.inference_mode():
        expected = [x.numpy() for x in graph(*inputs)]
    difference = max(
        float(np.abs(got - wanted).max() / max(1e-6, np.abs(wanted).max()))
        for got, wanted in zip(OnnxGraph(path)(feeds).values(), expected, strict=True)
    )
    if difference > TOLERANCE:
        raise RuntimeError(
            f"{graph.name}: expected outputs within {TOLERANCE} of the network's, "
            f"got {difference:.2g}"
        )
    return difference


def attention_graphs(model: Tacotron) -> list[Graph]:
    """Return encoder, step and postnet of a voice."""
    assert isinstance(model.decoder, Decoder)
    n_mels = model.decoder.n_mels
    first = encode(model, *_texts(model, 1, 2))
    has_speakers = model.speaker_memory is not None
    count = len(first) - 2 - len(STATE) - has_speakers
    names = [*STATE, *(f"attention{i}" for i in range(count))]
    states, speaker = " ".join(names), " speaker" if has_speakers else ""
    following = " ".join(NEXT + name for name in names)

    @torch.no_grad()
    def second_step(batch: int, length: int) -> Tensors:
        """The state before the second step, which is not zeros."""
        symbols, lengths, speakers = _texts(model, batch, length)
        memory, keys, *state = encode(model, symbols, lengths, speakers)
        frame = torch.randn(batch, n_mels)
        mel, _, *after = step(model, frame, memory, keys, lengths, *state)
        return (mel[:, -1], memory, keys, lengths, *after, *state[len(names) :])

    def mels(batch: int, length: int) -> Tensors:
        return torch.randn(batch, length, n_mels), _lengths(batch, length)

    outputs = f"memory keys {states}{speaker}"
    inputs = f"frame memory keys lengths {states}{speaker}"
    return [
        Graph(
            "encoder", model, encode, "symbols lengths speakers", outputs, partial(_texts, model)
        ),
        Graph("step", model, step, inputs, f"mel stop {following}", second_step),
        Graph("postnet", model, restore, "mel lengths", "log_mel log_linear", mels),
    ]


def duration_graphs(model: Tacotron) -> list[Graph]:
    """Return encoder and spectrogram of a voice driven by durations."""

    def weights(batch: int, length: int) -> Tensors:
        memory = torch.randn(batch, length, model.encoder.out_channels)
        frames = model.reduction * _lengths(batch, 2 * length)
        return memory, torch.rand(batch, 2 * length, length).softmax(2), frames

    texts, predicted = partial(_texts, model), "memory log_durations"
    outputs = "log_mel log_linear"
    return [
        Graph("encoder", model, predict, "symbols lengths speakers", predicted, texts),
        Graph("spectrogram", model, expand, "memory weights lengths", outputs, weights),
    ]


def recognizer_graph(model: Recognizer) -> Graph:
    """Return the one graph of a recognizer."""

    def mels(batch: int, length: int) -> Tensors:
        mel = torch.randn(batch, 4 * length, model.n_mels) - 3
        return mel, _lengths(batch, 4 * length)

    return Graph("network", model, recognize, "mel lengths", "log_probs steps", mels)


def encode(model: Tacotron, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> Tensors:
    """Return memory, keys, the state before the first step, and of several speakers the embedding.

    symbols (B, S), lengths (B,), speakers (B,).
    """
    decoder, mask = model.decoder, lengths_to_mask(lengths, symbols.shape[1])
    assert isinstance(decoder, Decoder)
    memory, speaker = model.encode(symbols, mask, speakers)
    state = decoder.loop.start(memory, mask)
    grus = [memory.new_zeros(memory.shape[0], decoder.width) for _ in decoder.grus]
    recurrent = (state.hidden, state.context, *grus, *state.attention)
    return (memory, state.keys, *recurrent, *([speaker] if speaker.shape[1] else []))


def step(
    model: Tacotron, frame: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, *rest: Tensor
) -> Tensors:
    """Return mel (B, R, M), stop logit (B,) and the next state.

    frame (B, M), then memory, keys and lengths, the state, of several speakers the embedding.
    """
    decoder = model.decoder
    assert isinstance(decoder, Decoder)
    if model.speaker_memory is not None:
        frame, rest = torch.cat([frame, rest[-1]], 1), rest[:-1]
    hidden, context, gru0, gru1, *attention = rest
    mask = lengths_to_mask(lengths, memory.shape[1])
    state = LoopState(memory, mask, keys, hidden, context, tuple(attention))
    state = decoder.loop.step(decoder.prenet(frame), state)
    mel, stop, grus = decoder.outputs(
        state.hidden[:, None], state.context[:, None], model.reduction, [gru0[None], gru1[None]]
    )
    after = [gru[0] for gru in grus if gru is not None]
    return mel, stop[:, 0], state.hidden, state.context, *after, *state.attention


def restore(model: Tacotron, mel: Tensor, lengths: Tensor) -> Tensors:
    """Turn the decoder's mel (B, T, M), lengths (B,) into mel and linear, log10 magnitudes."""
    mask = lengths_to_mask(lengths, mel.shape[1])
    return model.restore(*model.spectrogram(mel, mask))


def predict(model: Tacotron, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> Tensors:
    """Turn symbols (B, S), lengths (B,), speakers (B,) into memory and log durations (B, S)."""
    assert isinstance(model.decoder, DurationDecoder)
    mask = lengths_to_mask(lengths, symbols.shape[1])
    memory, _ = model.encode(symbols, mask, speakers)
    return memory, model.decoder.predictor(memory, mask)


def expand(model: Tacotron, memory: Tensor, weights: Tensor, lengths: Tensor) -> Tensors:
    """Turn memory, weights (B, L, S), lengths (B,) in frames into mel and linear."""
    return restore(model, model.decoder(memory, weights, lengths, model.reduction), lengths)


def recognize(model: Recognizer, mel: Tensor, lengths: Tensor) -> Tensors:
    """Turn mel (B, T, M), lengths (B,) into log_probs (B, L, V), steps (B,)."""
    output = model(mel, lengths)
    return output.log_probs, output.lengths


def _texts(model: Tacotron, batch: int, length: int) -> Tensors:
    """Return symbols, lengths and speakers for a batch and a length."""
    symbols = torch.randint(1, model.encoder.embedding.num_embeddings, (batch, length))
    return symbols, _lengths(batch, length), torch.arange(batch) % model.n_speakers


def _lengths(batch: int, length: int) -> Tensor:
    """Return lengths (B,): the first item has all, the next ones less."""
    return torch.tensor([length - (2 * i) % length for i in range(batch)])
