"""What is exported of a network: its parts as modules of tensors alone, with inputs to record.

B batch, S symbols, T mel frames, M mels, R frames a step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacoskip.exported import STATE, ExportedRecognizer, ExportedTacotron
from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import DynamicConvolution
from tacoskip.models.attention_loop import LoopState
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import RunError


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


def graphs_of(
    model: Tacotron | Recognizer | ExportedTacotron | ExportedRecognizer,
) -> list[Graph]:
    """Return a network's graphs; RunError for one whose graphs would not be the network."""
    if isinstance(model, Tacotron):
        if isinstance(model.decoder.loop.attention, DynamicConvolution):
            # ONNX has no convolution whose kernels differ from item to item.
            raise RunError("expected another attention to export, got dynamic_convolution")
        return voice_graphs(model)
    if isinstance(model, Recognizer):
        if model.speller is not None:
            raise RunError("expected a recognizer with asr.decoder=ctc to export, got attention")
        return recognizer_graphs(model)
    raise RunError("expected a run to export, got a folder that was exported")


class EncoderGraph(nn.Module):
    """symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, with several voices speaker."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, symbols: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, ...]:
        model, mask = self.model, lengths_to_mask(lengths, symbols.shape[1])
        memory, shown = model.encoder(symbols, mask), list[Tensor]()
        if model.speaker_memory is not None:
            shown.append(model.speakers(speakers))
            memory = memory + torch.tanh(model.speaker_memory(shown[0]))[:, None]
        memory = memory.masked_fill(~mask[:, :, None], 0.0)
        return memory, model.decoder.loop.attention.keys(memory), *shown


class StepGraph(nn.Module):
    """The last frame (B, M), what stays, the state -> mel (B, R, M), stop (B,), the next state."""

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
        state = LoopState(memory, mask, keys, hidden, context, tuple(attention))
        state = self.decoder.loop.step(prenet, state)
        hidden, context = state.hidden, state.context
        mel, stop, after = self.decoder.outputs(
            hidden[:, None], context[:, None], self.reduction, [first[None], second[None]]
        )
        grus = [one[0] for one in after if one is not None]
        return mel, stop[:, 0], hidden, context, *grus, *state.attention


class PostnetGraph(nn.Module):
    """mel (B, T, M) as the decoder makes it, lengths (B,) -> mel, linear: log10 magnitudes."""

    def __init__(self, model: Tacotron) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        model, mask = self.model, lengths_to_mask(lengths, mel.shape[1])
        mel = mel.masked_fill(~mask[:, :, None], 0.0)
        return model.restore(mel, model.linear(model.postnet(mel, mask)))


class RecognizerGraph(nn.Module):
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
        state = first_state(model, memory)
        hidden, context = state.hidden, state.context
        grus = [torch.zeros(batch, width) for width in widths(model)[2:]]
        fixed = (memory, keys, _lengths(batch, length), *shown)
        frame = torch.randn(batch, mels)
        after = StepGraph(model)(frame, *fixed, hidden, context, *grus, *state.attention)
        return (after[0][:, -1], *fixed, *after[2:])

    states = len(state_sizes(model))
    names = [*STATE, *(f"attention{i}" for i in range(states))]
    following = [f"next_{name}" for name in names]
    of_batch, of_time = {0: "batch"}, {0: "batch", 1: "symbols"}
    moving = [of_batch] * len(STATE) + [
        of_batch if size else of_time for size in state_sizes(model)
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


def recognizer_graphs(model: Recognizer) -> list[Graph]:
    """Return the one graph of a recognizer."""

    def mels(batch: int, length: int) -> tuple[Tensor, ...]:
        noise = torch.randn(batch, 4 * length, model.n_mels) - 3
        return noise, _lengths(batch, 4 * length)

    of_batch, of_frames = {0: "batch"}, {0: "batch", 1: "frames"}
    sizes = {"mel": of_frames, "lengths": of_batch}
    sizes |= {"log_probs": {0: "batch", 1: "steps"}, "steps": of_batch}
    graph = RecognizerGraph(model)
    return [Graph("network", graph, ["mel", "lengths"], ["log_probs", "steps"], mels, sizes)]


def first_state(model: Tacotron, memory: Tensor) -> LoopState:
    """Return the attention loop's state before the first step on a memory (B, S, C)."""
    return model.decoder.loop.start(memory, torch.ones(memory.shape[:2], dtype=torch.bool))


def widths(model: Tacotron) -> list[int]:
    """Return the channels of each tensor of STATE."""
    with torch.no_grad():
        state = first_state(model, torch.zeros(1, 2, model.encoder.out_channels))
    grus = [model.decoder.width] * len(model.decoder.grus)
    return [state.hidden.shape[1], state.context.shape[1], *grus]


def state_sizes(model: Tacotron) -> list[int]:
    """Return the width of each tensor of the attention's state; 0: one for each symbol."""
    first, second = (
        first_state(model, torch.zeros(1, length, model.encoder.out_channels)).attention
        for length in (2, 3)
    )
    return [0 if a.shape != b.shape else a.shape[1] for a, b in zip(first, second, strict=True)]


def _lengths(batch: int, length: int) -> Tensor:
    """The first item is full, the next ones shorter."""
    return torch.tensor([length - (2 * i) % length for i in range(batch)])
