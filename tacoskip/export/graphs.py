"""The parts of a network that become ONNX graphs: modules of tensors alone, with example inputs.

B batch, S symbols, T mel frames, L encoder frames, M mels, R frames a decoder step, V tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacoskip.blocks import for_export
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import DynamicConvolution
from tacoskip.models.attention_loop import LoopState
from tacoskip.models.decoder import Decoder
from tacoskip.models.durations import DurationDecoder
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import RunError
from tacoskip.run_folder.exported import NEXT, STATE, OnnxRecognizer, OnnxTacotron

SIZES = (2, 11), (3, 29)  # batch and length of two examples: one to trace, one to compare


@dataclass
class Graph:
    """A part of a network that becomes a file. example: inputs for a batch and a length."""

    name: str
    module: nn.Module
    inputs: list[str]
    outputs: list[str]
    example: Callable[[int, int], tuple[Tensor, ...]]

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return names for the axes of inputs and outputs whose size the example decides."""
        with torch.no_grad():
            first, second = (
                [*inputs, *self.module(*inputs)] for inputs in (self.example(*s) for s in SIZES)
            )
        names = [*self.inputs, *self.outputs]
        return {
            name: {
                axis: f"{name}_length" if axis else "batch"
                for axis in range(a.ndim)
                if a.shape[axis] != b.shape[axis]
            }
            for name, a, b in zip(names, first, second, strict=True)
        }


def graphs_of(model: Tacotron | Recognizer | OnnxTacotron | OnnxRecognizer) -> list[Graph]:
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


class EncoderGraph(nn.Module):
    """symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, the state before the first step;
    with several speakers also their embedding.
    """

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, ...]:
        decoder, mask = self.model.decoder, lengths_to_mask(lengths, symbols.shape[1])
        assert isinstance(decoder, Decoder)
        memory, speaker = self.model.encode(symbols, mask, speakers)
        state = decoder.loop.start(memory, mask)
        grus = [memory.new_zeros(memory.shape[0], decoder.width) for _ in decoder.grus]
        recurrent = (state.hidden, state.context, *grus, *state.attention)
        return (memory, state.keys, *recurrent, *([speaker] if speaker.shape[1] else []))


class StepGraph(nn.Module):
    """frame (B, M), memory, keys, lengths, the state, speaker if there are several -> mel (B, R,
    M), stop logit (B,), the next state.
    """

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        assert isinstance(model.decoder, Decoder)
        self.decoder, self.reduction = model.decoder, model.reduction
        self.has_speakers = model.speaker_memory is not None

    def forward(
        self, frame: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        if self.has_speakers:
            frame, rest = torch.cat([frame, rest[-1]], 1), rest[:-1]
        hidden, context, gru0, gru1, *attention = rest
        mask = lengths_to_mask(lengths, memory.shape[1])
        state = LoopState(memory, mask, keys, hidden, context, tuple(attention))
        state = self.decoder.loop.step(self.decoder.prenet(frame), state)
        mel, stop, grus = self.decoder.outputs(
            state.hidden[:, None], state.context[:, None], self.reduction, [gru0[None], gru1[None]]
        )
        after = [gru[0] for gru in grus if gru is not None]
        return mel, stop[:, 0], state.hidden, state.context, *after, *state.attention


class PostnetGraph(nn.Module):
    """mel (B, T, M) of the decoder, lengths (B,) -> mel, linear: log10 magnitudes."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = lengths_to_mask(lengths, mel.shape[1])
        return self.model.restore(*self.model.spectrogram(mel, mask))


class PredictorGraph(nn.Module):
    """symbols (B, S), lengths (B,), speakers (B,) -> memory, log durations (B, S)."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.model.decoder, DurationDecoder)
        mask = lengths_to_mask(lengths, symbols.shape[1])
        memory, _ = self.model.encode(symbols, mask, speakers)
        return memory, self.model.decoder.predictor(memory, mask)


class SpectrogramGraph(nn.Module):
    """memory, weights (B, L, S), lengths (B,) in frames -> mel, linear: log10 magnitudes."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, memory: Tensor, weights: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mel = self.model.decoder(memory, weights, lengths, self.model.reduction)
        mask = lengths_to_mask(lengths, mel.shape[1])
        return self.model.restore(*self.model.spectrogram(mel, mask))


class RecognizerGraph(nn.Module):
    """mel (B, T, M), lengths (B,) -> log_probs (B, L, V), lengths (B,)."""

    def __init__(self, model: Recognizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(mel, lengths)
        return output.log_probs, output.lengths


def _texts(model: Tacotron) -> Callable[[int, int], tuple[Tensor, ...]]:
    """Return what makes up symbols, lengths and speakers for a batch and a length."""
    n_symbols = model.encoder.embedding.num_embeddings

    def text(batch: int, length: int) -> tuple[Tensor, ...]:
        speakers = torch.arange(batch) % model.n_speakers
        return torch.randint(1, n_symbols, (batch, length)), _lengths(batch, length), speakers

    return text


def duration_graphs(model: Tacotron) -> list[Graph]:
    """Return encoder and spectrogram of a voice driven by durations."""
    channels = model.encoder.out_channels

    def steps(batch: int, length: int) -> tuple[Tensor, ...]:
        weights = torch.rand(batch, 2 * length, length).softmax(2)
        return (
            torch.randn(batch, length, channels),
            weights,
            model.reduction * _lengths(batch, 2 * length),
        )

    return [
        Graph(
            "encoder",
            PredictorGraph(model),
            ["symbols", "lengths", "speakers"],
            ["memory", "log_durations"],
            _texts(model),
        ),
        Graph(
            "spectrogram",
            SpectrogramGraph(model),
            ["memory", "weights", "lengths"],
            ["log_mel", "log_linear"],
            steps,
        ),
    ]


def attention_graphs(model: Tacotron) -> list[Graph]:
    """Return encoder, step and postnet of a voice."""
    assert isinstance(model.decoder, Decoder)
    n_mels, text = model.decoder.n_mels, _texts(model)

    @torch.no_grad()
    def second_step(batch: int, length: int) -> tuple[Tensor, ...]:
        """The state before the second step, which is not zeros."""
        symbols, lengths, speakers = text(batch, length)
        memory, keys, *state = EncoderGraph(model)(symbols, lengths, speakers)
        frame = torch.randn(batch, n_mels)
        mel, _, *following = StepGraph(model)(frame, memory, keys, lengths, *state)
        return (mel[:, -1], memory, keys, lengths, *following, *state[len(names) :])

    with torch.no_grad():
        first = model.decoder.loop.start(
            torch.zeros(1, 2, model.encoder.out_channels), torch.ones(1, 2, dtype=torch.bool)
        )
    names = [*STATE, *(f"attention{i}" for i in range(len(first.attention)))]
    speaker = ["speaker"] if model.speaker_memory is not None else []
    return [
        Graph(
            "encoder",
            EncoderGraph(model),
            ["symbols", "lengths", "speakers"],
            ["memory", "keys", *names, *speaker],
            text,
        ),
        Graph(
            "step",
            StepGraph(model),
            ["frame", "memory", "keys", "lengths", *names, *speaker],
            ["mel", "stop", *(NEXT + name for name in names)],
            second_step,
        ),
        Graph(
            "postnet",
            PostnetGraph(model),
            ["mel", "lengths"],
            ["log_mel", "log_linear"],
            lambda batch, length: (torch.randn(batch, length, n_mels), _lengths(batch, length)),
        ),
    ]


def recognizer_graph(model: Recognizer) -> Graph:
    """Return the one graph of a recognizer."""

    def mels(batch: int, length: int) -> tuple[Tensor, ...]:
        mel = torch.randn(batch, 4 * length, model.n_mels) - 3
        return mel, _lengths(batch, 4 * length)

    graph = RecognizerGraph(model)
    return Graph("network", graph, ["mel", "lengths"], ["log_probs", "steps"], mels)


def _lengths(batch: int, length: int) -> Tensor:
    """Return lengths (B,): the first item has all, the next ones less."""
    return torch.tensor([length - (2 * i) % length for i in range(batch)])
