"""A folder that `tacoskip export` wrote: export.json and ONNX graphs, run by onnxruntime.

A voice has encoder.onnx, step.onnx (one decoder step) and postnet.onnx, a recognizer network.onnx.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from tacoskip.config import Config, from_dict
from tacoskip.run_folder import EXPORT, RunError

FORMAT = 2

Arrays = dict[str, NDArray[Any]]


@dataclass
class ExportManifest:
    """What export.json holds: of a checkpoint all but the weights. graphs: name to file.

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


def is_exported(folder: str | Path) -> bool:
    """Whether a path is a folder that `tacoskip export` wrote."""
    return (Path(folder) / EXPORT).is_file()


def read_manifest(folder: str | Path) -> tuple[ExportManifest, Config]:
    """Read export.json and its settings; RunError when it is damaged or of another version."""
    path = Path(folder) / EXPORT
    try:
        manifest = ExportManifest(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError):  # a JSONDecodeError is a ValueError
        raise RunError(
            f"{path}: damaged or made by another version; export the run again"
        ) from None
    if manifest.format != FORMAT:
        raise RunError(f"{path}: expected format {FORMAT}, got {manifest.format}; export it again")
    try:
        return manifest, from_dict(manifest.config, source=str(path))
    except ValueError as error:
        raise RunError(str(error)) from None


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
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has one class for each kind of damage
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise RunError(f"{path}: not a graph that onnxruntime reads ({reason})") from None
        self.inputs = {one.name for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, values: Arrays) -> Arrays:
        """Run the graph; values it has no input for are ignored (tracing drops unused inputs)."""
        known = {name: value for name, value in values.items() if name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, known), strict=True))
