"""Graphs into files: traced, held to their network on other sizes, timed, in 8 bits where it pays.

They are traced because torch.onnx's other way freezes the time of a GRU at the example's. Units
that a gate has closed are gone before: `load` removes them.
"""

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.config import to_dict
from tacoskip.export.compare import compare_recognizers, compare_voices
from tacoskip.export.graphs import Graph, graphs_of, state_sizes, widths
from tacoskip.exported import MANIFEST, Manifest, session
from tacoskip.exported import run as run_graph
from tacoskip.models.tacotron import Tacotron
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import RunError
from tacoskip.synthesis.voice import Voice, load

OPSET = 17
# Largest difference to torch that passes, relative to the largest value. Sums run in another order.
TOLERANCE = 1e-3
# Sizes of the examples: recorded, and held to torch.
RECORDED, HELD = (2, 11), (3, 29)
TIMED = 15
# Weights of 8 bits are kept where they are smaller and take at most this share of the time.
PAYS = 0.95


def export(run: str | Path, folder: Path, int8: bool = False) -> dict[str, Any]:
    """Write a run's graphs and its export.json into `folder`; return what they were measured to be.

    int8: each graph also with weights of 8 bits, kept instead where that pays. The result has for
    each graph bytes, ms, torch's ms and the largest relative difference to torch, bytes, ms and
    difference of int8, and which was kept; then what `compare_voices` or `compare_recognizers`
    found of the whole. Raises ValueError when onnx is not installed, RunError for what cannot be
    exported, RuntimeError for a graph that differs from its network.
    """
    _require()
    loaded = load(run, "cpu")
    graphs = graphs_of(loaded.model.eval())
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
    assert isinstance(again, SpeechRecognizer)
    return result | {"task": "asr"} | compare_recognizers(loaded, again)


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


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'tacoskip[export]'") from None


def _manifest(loaded: Voice | SpeechRecognizer, files: dict[str, str]) -> Manifest:
    config = to_dict(loaded.config)
    if isinstance(loaded, SpeechRecognizer):
        vocabulary = loaded.vocabulary.model
        symbols = list(loaded.vocabulary.symbols)
        return Manifest(config, symbols, [], 0.0, vocabulary, 0, files, [], [], False)
    model = loaded.model
    assert isinstance(model, Tacotron)
    with torch.no_grad():
        first = model.decoder.start(torch.zeros(1, 2, model.encoder.out_channels))[3][0]
    return Manifest(
        config,
        loaded.tokenizer.symbols,
        loaded.speakers,
        loaded.frames_per_symbol,
        "",
        model.reduction,
        files,
        widths(model),
        state_sizes(model),
        bool(first[0, 0] == 1),
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
