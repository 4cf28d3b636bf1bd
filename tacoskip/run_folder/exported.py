"""A folder that `tacoskip export` wrote: export.json, and ONNX graphs that onnxruntime runs.

    encoder.onnx     symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, the first state
    step.onnx        the last frame, memory, keys, the state -> R frames, stop logit, next state
    postnet.onnx     mel (B, L * R, M), lengths (B,) -> mel and linear, log10 magnitudes
    encoder.onnx     of a voice driven by durations: -> memory, log durations
    spectrogram.onnx memory, weights (B, L, S), lengths (B,) -> mel and linear, log10 magnitudes
    network.onnx     of a recognizer: mel (B, T, M), lengths (B,) -> log_probs (B, L, V), steps (B,)

B batch, S symbols, L decoder steps or encoder frames, R frames a step, T frames, M mels, V tokens.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacoskip.config import Config, from_dict
from tacoskip.files import read_regular
from tacoskip.masks import lengths_to_mask
from tacoskip.models.decoder import StopTracker
from tacoskip.models.durations import DURATIONS, synthesis_weights
from tacoskip.models.recognizer import RecognizerOutput
from tacoskip.models.tacotron import TacotronOutput
from tacoskip.run_folder import EXPORT, FIELDS, RunError

FORMAT = 3
GRAPHS = {  # NAME.onnx of each kind of network
    "tts": {"encoder", "step", "postnet"},
    DURATIONS: {"encoder", "spectrogram"},
    "asr": {"network"},
}
MANIFEST_BYTES, GRAPH_BYTES = 50_000_000, 4_000_000_000
STATE = ("hidden", "context", "gru0", "gru1")  # then attention0 (the weights), attention1, ...
NEXT = "next_"  # prefix of the state among the outputs of a step

Arrays = dict[str, NDArray[Any]]


@dataclass
class ExportManifest:
    """What export.json holds: of a checkpoint all but the weights. graphs: SHA-256 by name.

    reduction: frames a decoder step of a voice. vocabulary: a recognizer's subword model, "" for
    characters.
    """

    config: dict[str, Any]
    symbols: list[str]
    graphs: dict[str, str]
    speakers: list[str]
    seen_symbols: list[int]
    frames_per_symbol: float = 0.0
    reduction: int = 1
    vocabulary: str = ""
    format: int = FORMAT


def graph_hash(path: Path) -> str:
    """Return the SHA-256 of a graph's file, "" where there is none."""
    return hashlib.sha256(read_regular(path, GRAPH_BYTES)).hexdigest() if path.exists() else ""


def read_manifest(folder: str | Path) -> tuple[ExportManifest, Config]:
    """Read export.json and its settings.

    Raises RunError, in one line, for values that are not what they should be, and for graphs that
    are missing or of another export.
    """
    path = Path(folder) / EXPORT
    again = "export the run again"
    try:
        values = json.loads(read_regular(path, MANIFEST_BYTES))
        values = values if isinstance(values, dict) else {}
    except (OSError, ValueError, RecursionError):  # a JSONDecodeError is a ValueError
        raise RunError(f"{path}: damaged; {again}") from None
    names = [field.name for field in fields(ExportManifest)]
    wrong = [name for name in names if name not in values or not FIELDS[name](values[name])]
    if wrong or values["format"] != FORMAT or not {"task", "audio"} <= values["config"].keys():
        raise RunError(f"{path}: damaged or of another version ({(wrong or names)[0]}); {again}")
    try:
        manifest = ExportManifest(**{name: values[name] for name in names})
        config = from_dict(manifest.config, source=str(path))
    except ValueError as error:
        raise RunError(str(error)) from None
    if config.task == "tts" and not manifest.speakers:
        raise RunError(f"{path}: expected a speaker, got none; {again}")
    by_durations = config.task == "tts" and config.tts.attention == DURATIONS
    if set(manifest.graphs) != GRAPHS[DURATIONS if by_durations else config.task]:
        raise RunError(f"{path}: expected graphs of task={config.task}; {again}")
    for name, expected in manifest.graphs.items():
        file = path.parent / f"{name}.onnx"
        if graph_hash(file) != expected:
            raise RunError(f"{file}: missing, damaged or of another export; {again}")
    return manifest, config


class OnnxGraph:
    """A graph on the CPU, on as many threads as torch uses: arrays by name in and out.

    Raises ValueError when onnxruntime is not installed, RunError for a file it cannot read.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(
                "exported runs need onnxruntime: pip install 'tacoskip[export]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.path = path
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has one class for each kind of damage
            raise self._error("not a graph that onnxruntime reads", error) from None
        self.inputs = {one.name for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, values: Arrays) -> Arrays:
        """Run the graph; values it has no input for are ignored (tracing drops unused inputs)."""
        known = {name: value for name, value in values.items() if name in self.inputs}
        try:
            return dict(zip(self.outputs, self.session.run(None, known), strict=True))
        except Exception as error:
            raise self._error(f"does not fit {EXPORT}", error) from None

    def _error(self, message: str, error: Exception) -> RunError:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        return RunError(f"{self.path}: {message} ({reason})")


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what outputs that are missing or of another shape lead to into a RunError."""
    try:
        yield
    except RunError:
        raise
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: expected graphs that fit {EXPORT}, got {reason}") from None


class OnnxRecognizer(nn.Module):
    """The graph of a recognizer behind `Recognizer.forward`; it has no `memory` and no speller."""

    mel_mean: Tensor
    speller = None

    def __init__(self, folder: Path, config: Config) -> None:
        super().__init__()
        self.subsampling = config.asr.subsampling
        self.graph = OnnxGraph(folder / "network.onnx")
        self.register_buffer("mel_mean", torch.zeros(1))  # tells the device

    def forward(self, mel: Tensor, mel_lengths: Tensor) -> RecognizerOutput:
        """Log mels (B, T, M), mel_lengths (B,) -> log probabilities."""
        output = self.graph({"mel": mel.numpy(), "lengths": mel_lengths.numpy()})
        with fitting(self.graph.path):
            log_probs = torch.from_numpy(output["log_probs"])
            if abs(log_probs.shape[1] * self.subsampling - mel.shape[1]) > 2 * self.subsampling:
                raise ValueError(
                    f"another number of frames than with asr.subsampling={self.subsampling}"
                )
            return RecognizerOutput(log_probs, torch.empty(0), torch.from_numpy(output["steps"]))


class OnnxTacotron(nn.Module):
    """The graphs of a voice behind the methods that `Voice` calls."""

    mel_mean: Tensor

    def __init__(self, folder: Path, manifest: ExportManifest, n_mels: int) -> None:
        super().__init__()
        self.folder, self.reduction, self.n_mels = folder, manifest.reduction, n_mels
        self.graphs = {name: OnnxGraph(folder / f"{name}.onnx") for name in manifest.graphs}
        self.register_buffer("mel_mean", torch.zeros(1))  # tells the device

    def restore(self, mel: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as they are: the post-net's graph gives log10 magnitudes."""
        return mel, linear

    def infer(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        speakers: Tensor,
        max_frames: Tensor,
        rest_frames: int,
    ) -> TacotronOutput:
        """Synthesize as `Tacotron.infer` does: the same arguments, the same rules to stop."""
        with fitting(self.folder):
            lengths = symbol_lengths.numpy()
            values = {"symbols": symbols.numpy(), "lengths": lengths, "speakers": speakers.numpy()}
            values |= self.graphs["encoder"](values)
            if "spectrogram" in self.graphs:
                return self._by_durations(values, max_frames)
            values["frame"] = np.zeros((len(lengths), self.n_mels), np.float32)
            limits = np.maximum(-(-max_frames.numpy() // self.reduction), 1).tolist()
            ends = StopTracker(limits, (lengths - 1).tolist(), -(-rest_frames // self.reduction))
            mels, stops, alignments = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
            while not ends.all_stopped:
                output = self.graphs["step"](values)
                values |= {name.removeprefix(NEXT): value for name, value in output.items()}
                values["frame"] = output["mel"][:, -1]
                if output["mel"].shape[1] != self.reduction:
                    raise ValueError(f"{output['mel'].shape[1]} frames a step for {self.reduction}")
                mels.append(output["mel"])
                stops.append(output["stop"])
                alignments.append(values["attention0"])
                ends.update([stops[-1].tolist()], [alignments[-1].argmax(1).tolist()])
            frames = np.array(ends.steps) * self.reduction
            output = self.graphs["postnet"]({"mel": np.concatenate(mels, 1), "lengths": frames})
            arrays = (
                *(output["log_mel"], output["log_linear"]),
                *(np.stack(stops, 1), np.stack(alignments, 1)),
                *(frames, np.array(ends.stopped)),
            )
            return TacotronOutput(*map(torch.from_numpy, arrays))

    def _by_durations(self, values: Arrays, max_frames: Tensor) -> TacotronOutput:
        log_durations = torch.from_numpy(values["log_durations"])
        mask = lengths_to_mask(torch.from_numpy(values["lengths"]), log_durations.shape[1])
        weights, lengths, stopped = synthesis_weights(
            log_durations, mask, max_frames, self.reduction
        )
        frames = int(lengths.max())
        output = self.graphs["spectrogram"](
            {"memory": values["memory"], "weights": weights.numpy(), "lengths": lengths.numpy()}
        )
        mel, linear = (
            torch.from_numpy(output[name][:, :frames]) for name in ("log_mel", "log_linear")
        )
        stop_logits = mel.new_zeros(len(mel), 0)
        return TacotronOutput(mel, linear, stop_logits, weights, lengths, stopped, log_durations)
