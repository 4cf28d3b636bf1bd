"""A run into ONNX graphs: traced, compared with the network on other sizes, timed.

They are traced because torch.onnx's other exporter fixes the length of a GRU's input.
"""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacoskip.config import to_dict
from tacoskip.export.graphs import SIZES, Graph, graphs_of
from tacoskip.files import write_whole
from tacoskip.kernels.accelerate import plain
from tacoskip.loading import load
from tacoskip.run_folder import EXPORT, RunError
from tacoskip.run_folder.exported import ExportManifest, OnnxGraph
from tacoskip.synthesis.voice import Voice

OPSET = 17
# Largest difference to torch, relative to the largest value: sums run in another order.
TOLERANCE = 1e-3
TIMED_CALLS = 15


def export(run: str | Path, folder: Path) -> dict[str, Any]:
    """Write a run's graphs and export.json into `folder`; return what was measured.

    The result has for each graph its bytes, its ms, torch's ms and the largest relative difference
    to torch. Raises ValueError when onnx is not
    installed, RunError for a run that cannot be exported, RuntimeError for a graph that differs
    from its network.
    """
    _require_onnx()
    loaded = load(run, "cpu")
    graphs = graphs_of(plain(loaded.model.eval()))
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for graph in graphs:
        path = folder / f"{graph.name}.onnx"
        write(graph, path)
        figures[graph.name] = measure(graph, path)
    manifest = ExportManifest(
        to_dict(loaded.config), [], {graph.name: f"{graph.name}.onnx" for graph in graphs}, [], []
    )
    if isinstance(loaded, Voice):
        manifest.symbols, manifest.speakers = loaded.tokenizer.symbols, loaded.speakers
        manifest.seen_symbols = sorted(loaded.seen_symbols)
        manifest.frames_per_symbol = loaded.frames_per_symbol
        manifest.reduction = loaded.model.reduction
    else:
        manifest.symbols = list(loaded.vocabulary.symbols)
        manifest.vocabulary = loaded.vocabulary.model
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    write_whole(folder / EXPORT, text + "\n")
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
        except Exception as error:  # whatever the exporter has no operator for
            reason = str(error).strip().split("\n")[0]
            raise RunError(f"{graph.name} cannot be exported: {reason}") from None


def measure(graph: Graph, path: Path) -> dict[str, float]:
    """Compare a file with its network on sizes that were not traced, and time both.

    Raises RuntimeError when they differ.
    """
    inputs = graph.example(*SIZES[1])
    feeds = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
    exported = OnnxGraph(path)
    with torch.inference_mode():
        expected = [x.numpy() for x in graph.module(*inputs)]
        difference = max(
            float(np.abs(got - wanted).max() / max(1e-6, np.abs(wanted).max()))
            for got, wanted in zip(exported(feeds).values(), expected, strict=True)
        )
        if difference > TOLERANCE:
            raise RuntimeError(
                f"{path}: expected outputs within {TOLERANCE} of the network's, got "
                f"{difference:.2g}"
            )
        calls: dict[str, Callable[[], object]] = {
            "torch_ms": lambda: graph.module(*inputs),
            "ms": lambda: exported(feeds),
        }
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(TIMED_CALLS):  # in turn, so that both meet the same load
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                spent[name].append(1000 * (time.perf_counter() - began))
    milliseconds = {name: float(np.median(times)) for name, times in spent.items()}
    return {"bytes": path.stat().st_size, "difference": difference, **milliseconds}


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return what `export` measured of each graph as rows: graph, MB, ms, speed-up, difference."""
    return [
        [
            name,
            f"{one['bytes'] / 1e6:.2f}",
            f"{one['ms']:.2f}",
            f"{one['torch_ms'] / one['ms']:.2f}",
            f"{one['difference']:.1e}",
        ]
        for name, one in result["graphs"].items()
    ]


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'tacoskip[export]'") from None
