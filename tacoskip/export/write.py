"""A run into ONNX graphs: traced, and compared with the network on other sizes.

They are traced because torch.onnx's other exporter fixes the length of a GRU's input.
"""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacoskip.config import to_dict
from tacoskip.export.graphs import SIZES, Graph, graphs_of
from tacoskip.files import whole_folder, write_whole
from tacoskip.kernels.accelerate import plain
from tacoskip.loading import load
from tacoskip.run_folder import EXPORT, RunError
from tacoskip.run_folder.exported import ExportManifest, OnnxGraph, graph_hash
from tacoskip.synthesis.voice import Voice

OPSET = 17
# Largest difference to torch, relative to the largest value: sums run in another order.
TOLERANCE = 1e-3


def export(run: str | Path, folder: Path) -> dict[str, Any]:
    """Write a run's graphs and export.json into `folder`, an earlier export of which is replaced.

    The result has for each graph its bytes and the largest relative difference to torch. Raises
    ValueError when onnx is not installed or the folder holds other files, RunError for a run that
    cannot be exported, RuntimeError for a graph that differs from its network.
    """
    _require_onnx()
    others = [one for one in folder.glob("*") if one.name != EXPORT and one.suffix != ".onnx"]
    if others:
        raise ValueError(f"expected an empty folder or an export, got '{others[0]}'")
    loaded = load(run, "cpu")
    graphs = graphs_of(plain(loaded.model.eval()))
    with whole_folder(folder) as part:
        files = {graph.name: part / f"{graph.name}.onnx" for graph in graphs}
        figures = {}
        for graph in graphs:
            write(graph, files[graph.name])
            difference = compare(graph, files[graph.name])
            size = files[graph.name].stat().st_size
            figures[graph.name] = {"bytes": size, "difference": difference}
        hashes = {name: graph_hash(file) for name, file in files.items()}
        manifest = ExportManifest(to_dict(loaded.config), [], hashes, [], [])
        if isinstance(loaded, Voice):
            manifest.symbols, manifest.speakers = loaded.tokenizer.symbols, loaded.speakers
            manifest.seen_symbols = sorted(loaded.seen_symbols)
            manifest.frames_per_symbol = loaded.frames_per_symbol
            manifest.reduction = loaded.model.reduction
        else:
            manifest.symbols = list(loaded.vocabulary.symbols)
            manifest.vocabulary = loaded.vocabulary.model
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
        write_whole(part / EXPORT, text + "\n")
    return {"run": str(run), "out": str(folder), "graphs": figures}


def write(graph: Graph, path: Path) -> None:
    """Trace a graph into a file; RunError, in one line, where it cannot be traced."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are checked only once
        try:
            torch.onnx.export(
                graph.module.eval(),
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
        expected = [x.numpy() for x in graph.module(*inputs)]
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


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'tacoskip[export]'") from None
