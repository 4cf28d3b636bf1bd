"""Networks that `tacoskip export` wrote: the calls of `models/`, run by onnxruntime.

    export.json      settings, symbols, speakers, what the graphs take and give
    encoder.onnx     symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, speaker
    step.onnx        one decoder step: the last frame and the state -> R frames, stop logit, state
    postnet.onnx     mel (B, T, M), lengths (B,) -> mel and linear, log10 magnitudes
    network.onnx     a recognizer: mel (B, T, M), lengths (B,) -> log probabilities, lengths

Batch, text and time are of any size. The loop over decoder steps runs here, in numpy; `inference`
puts these networks in the place of the trained ones. B batch, S symbols, T mel frames, L steps.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacoskip.config import Config, from_dict
from tacoskip.models.recognizer import RecognizerOutput
from tacoskip.models.tacotron import TacotronOutput
from tacoskip.run_folder import EXPORT, RunError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MANIFEST, FORMAT = EXPORT, 1
# The decoder's own state; the attention's tensors follow it, the weights first.
STATE = ("hidden", "context", "gru0", "gru1")


@dataclass
class Manifest:
    """What export.json holds. vocabulary: a recognizer's subword model, "" for characters.
    reduction: R. graphs: name to file. A voice's state before the first step is zeros: of `widths`
    channels the tensors of STATE, of `state_sizes` (0: one for each symbol) those of the
    attention, whose first reads symbol 0 where it is `one_hot`.
    """

    config: dict[str, Any]
    symbols: list[str]
    speakers: list[str]
    frames_per_symbol: float
    vocabulary: str
    reduction: int
    graphs: dict[str, str]
    widths: list[int]
    state_sizes: list[int]
    one_hot: bool
    format: int = FORMAT


def is_exported(folder: str | Path) -> bool:
    """Whether a path is a folder that `tacoskip export` wrote."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: str | Path) -> tuple[Manifest, Config]:
    """Read export.json and its settings; RunError when it is damaged or of another version."""
    path = Path(folder) / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**values)
    except (TypeError, ValueError):  # what JSON raises is a ValueError
        raise RunError(
            f"{path}: damaged or made by another version; export the run again"
        ) from None
    if manifest.format != FORMAT:
        raise RunError(f"{path}: expected format {FORMAT}, got {manifest.format}; export it again")
    try:
        return manifest, from_dict(manifest.config, source=str(path))
    except ValueError as error:
        raise RunError(str(error)) from None


def session(path: Path) -> "InferenceSession":
    """Open a graph on the CPU, on as many threads as torch uses.

    Raises ValueError when onnxruntime is not there, RunError for a file that it cannot read.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("exported runs need onnxruntime: pip install 'tacoskip[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise RunError(f"{path}: no graph that onnxruntime reads ({_line(error)})") from None


class ExportedTacotron(nn.Module):
    """A voice's graphs behind `Tacotron.infer`. What it gives is in log10 magnitudes already."""

    mel_mean: Tensor

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__()
        self.manifest, self.reduction = manifest, manifest.reduction
        self.graphs = {name: session(folder / file) for name, file in manifest.graphs.items()}
        self.register_buffer("mel_mean", torch.zeros(1))

    def restore(self, mel: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is left to do: the post-net's graph ends in log10 magnitudes."""
        return mel, linear

    def infer(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        speakers: Tensor,
        max_frames: Tensor,
        rest_frames: int,
    ) -> TacotronOutput:
        """Speak as `Tacotron.infer` does: the same arguments, the same rules to end."""
        lengths = symbol_lengths.numpy()
        feeds = {"symbols": symbols.numpy(), "lengths": lengths, "speakers": speakers.numpy()}
        fixed = run(self.graphs["encoder"], feeds) | {"lengths": lengths}
        limits = np.maximum(-(-max_frames.numpy() // self.reduction), 1)
        rest = -(-rest_frames // self.reduction)
        mel, stops, weights, steps, stopped = self._decode(fixed, limits, rest)
        frames = steps * self.reduction
        found = run(self.graphs["postnet"], {"mel": mel, "lengths": frames})
        rows = found["log_mel"], found["log_linear"], stops, weights, frames, stopped
        return TacotronOutput(*(torch.from_numpy(x) for x in rows))

    def _decode(
        self, fixed: dict[str, NDArray[Any]], limits: NDArray[np.int64], rest: int
    ) -> tuple[NDArray[Any], ...]:
        """Step until every item has stopped, rested or reached its limit: mel (B, L*R, M), stops
        (B, L), weights (B, L, S), steps (B,), stopped (B,).
        """
        state, frame = self._start(fixed["memory"])
        last = fixed["lengths"] - 1
        steps, stopped = limits.copy(), np.zeros(len(limits), dtype=bool)
        rested, likeliest = np.zeros_like(limits), np.zeros_like(limits)
        nearest = np.full(len(limits), -np.inf)
        mels, stops, alignments = [], [], []
        for step in range(int(limits.max())):
            found = run(self.graphs["step"], {"frame": frame, **fixed, **state})
            mel, stop = found.pop("mel"), found.pop("stop")
            state = {name.removeprefix("next_"): value for name, value in found.items()}
            weights, frame = state["attention0"], mel[:, -1]
            mels.append(mel)
            stops.append(stop)
            alignments.append(weights)
            speaks = ~stopped & (step < limits)
            at_end = weights.argmax(1) == last
            rested += at_end
            nearer = at_end & (stop > nearest)
            nearest, likeliest = (
                np.where(nearer, stop, nearest),
                np.where(nearer, step + 1, likeliest),
            )
            ends, rests = (stop > 0) & speaks, (rested >= rest) & speaks
            steps = np.where(ends, step + 1, np.where(rests, likeliest, steps))
            stopped |= ends | rests
            if (stopped | (step + 1 >= limits)).all():
                break
        return (
            np.concatenate(mels, 1),
            np.stack(stops, 1),
            np.stack(alignments, 1),
            steps,
            stopped,
        )

    def _start(self, memory: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """State before the first step, and the frame of zeros that it is shown."""
        made, (batch, symbols) = self.manifest, memory.shape[:2]
        state = {
            name: np.zeros((batch, width), np.float32)
            for name, width in zip(STATE, made.widths, strict=True)
        }
        for number, size in enumerate(made.state_sizes):
            state[f"attention{number}"] = np.zeros((batch, size or symbols), np.float32)
        if made.one_hot:
            state["attention0"][:, 0] = 1.0
        return state, np.zeros((batch, made.config["audio"]["n_mels"]), np.float32)


class ExportedRecognizer(nn.Module):
    """A recognizer's graph behind `Recognizer.forward`."""

    mel_mean: Tensor
    speller = None

    def __init__(self, folder: Path, manifest: Manifest, subsampling: int) -> None:
        super().__init__()
        self.subsampling = subsampling
        self.graph = session(folder / manifest.graphs["network"])
        self.register_buffer("mel_mean", torch.zeros(1))

    def forward(self, mel: Tensor, mel_lengths: Tensor) -> RecognizerOutput:
        """Read log mels (B, T, M); the memory behind the posteriors stays in the graph."""
        feeds = {"mel": mel.numpy(), "lengths": mel_lengths.numpy()}
        found = {name: torch.from_numpy(x) for name, x in run(self.graph, feeds).items()}
        log_probs = found["log_probs"]
        return RecognizerOutput(log_probs, log_probs.new_zeros(0), found["steps"])


def run(graph: "InferenceSession", feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a graph by names; an input that changes nothing has been left out of it."""
    known = {one.name for one in graph.get_inputs()}
    found = graph.run(None, {name: value for name, value in feeds.items() if name in known})
    return dict(zip([one.name for one in graph.get_outputs()], found, strict=True))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
