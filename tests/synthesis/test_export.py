"""Exported runs give what their networks give, at sizes that were not traced."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="no onnx (pip install 'tacoskip[export]')")
pytest.importorskip("onnxruntime", reason="no onnxruntime (pip install 'tacoskip[export]')")

from tacoskip.blocks.gates import prune
from tacoskip.cli import app
from tacoskip.config import Config, load_config, to_dict
from tacoskip.export import export
from tacoskip.loading import load, load_recognizer, load_voice
from tacoskip.run_folder import Checkpoint, RunError, build_network, save_checkpoint
from tacoskip.run_folder.exported import graph_hash
from tacoskip.synthesis.voice import Voice
from tacoskip.text import Tokenizer
from tacoskip.text.subwords import Characters

TEXTS = ["one", "a somewhat longer text than the one before", "three. And a second sentence"]


def saved(folder: Path, config: Config, speakers: list[str]) -> Path:
    """A run of random weights, whose texts depend on the sound and whose voice has statistics."""
    torch.manual_seed(0)
    n_symbols = len(Characters()) if config.task == "asr" else len(Tokenizer(config.text))
    model = build_network(config, n_symbols, len(speakers))
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith(("_mean", "running_mean", "bias")):
            value.add_(0.3 * torch.rand_like(value))
        if name == "output.weight":
            value.mul_(20)
    kept = Checkpoint(to_dict(config), speakers, n_symbols, 4.0, 1, state, {})
    save_checkpoint(kept, folder / "checkpoints" / "best.pt")
    return folder


def voice_run(folder: Path, speakers: list[str], attention: str, **config: str) -> Path:
    base = load_config("smoke")
    base = replace(base, tts=replace(base.tts, attention=attention), **config)
    return saved(folder, base, speakers)


def check_same_speech(run: Path, exported: Path) -> None:
    ours, theirs = load_voice(run), load_voice(exported)
    for speaker in ours.speakers:
        for text in (TEXTS[0], TEXTS):
            pairs = zip(
                np.atleast_1d(ours.synthesize(text, speaker)),
                np.atleast_1d(theirs.synthesize(text, speaker)),
                strict=True,
            )
            for a, b in pairs:
                assert a.mel.shape == b.mel.shape and a.stopped == b.stopped
                np.testing.assert_allclose(a.mel, b.mel, atol=2e-3)
                np.testing.assert_allclose(a.alignment, b.alignment, atol=2e-3)


@pytest.mark.parametrize(
    ("attention", "block"),
    [
        ("durations", "highway"),
        ("forward", "highway"),
        ("location", "unet"),
        ("gmm", "nonlocal"),
        ("stepwise_monotonic", "reversible"),
    ],
)
def test_exported_voice_matches_its_run(attention: str, block: str, tmp_path: Path) -> None:
    speakers = ["anna", "ben"] if attention == "forward" else ["anna"]
    run = voice_run(tmp_path / "run", speakers, attention, block=block)
    found = export(run, tmp_path / "onnx")
    rest = ["spectrogram"] if attention == "durations" else ["step", "postnet"]
    assert list(found["graphs"]) == ["encoder", *rest]
    check_same_speech(run, tmp_path / "onnx")


def test_exported_recognizer_matches_its_run(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", load_config("smoke_asr"), ["s"])
    found = export(run, tmp_path / "onnx")
    assert found["graphs"]["network"]["difference"] < 1e-3
    ours, theirs = load_recognizer(run), load_recognizer(tmp_path / "onnx")
    noise = np.random.default_rng(0).standard_normal
    waves = [0.1 * noise(n).astype(np.float32) for n in (9000, 2000, 30000)]
    for a, b in zip(ours.posteriors(waves), theirs.posteriors(waves), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    texts = [[t.text for t in one.transcribe_waves(waves)] for one in (ours, theirs)]
    assert texts[0] == texts[1] and any(texts[0])
    path = tmp_path / "onnx" / "export.json"
    values = json.loads(path.read_text())
    values["config"]["asr"]["subsampling"] = 64
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"expected graphs that fit export\.json.* frames"):
        load_recognizer(tmp_path / "onnx").transcribe(waves[2])


def test_closed_units_are_not_exported(tmp_path: Path) -> None:
    run = voice_run(tmp_path / "run", ["anna"], "forward", block="deactivable")
    path = run / "checkpoints" / "best.pt"
    values = torch.load(path, weights_only=True)
    whole = export(run, tmp_path / "whole")["graphs"]["encoder"]["bytes"]
    for name, value in values["weights"].items():
        if name.endswith("log_alpha"):
            value.fill_(-4.0)
    torch.save(values, path)
    assert not prune(load_voice(run).model)  # `load` has taken them out
    assert export(run, tmp_path / "pruned")["graphs"]["encoder"]["bytes"] < whole
    check_same_speech(run, tmp_path / "pruned")


def test_synthesize_accepts_an_exported_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    voice_run(tmp_path / "run", ["anna"], "forward")
    result = CliRunner().invoke(app, ["export", "run", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["out"] == "run/onnx"
    manifest = json.loads((tmp_path / "run" / "onnx" / "export.json").read_text())
    assert manifest["symbols"] == Tokenizer().symbols
    assert manifest["config"]["audio"]["sample_rate"] == 8000
    result = CliRunner().invoke(app, ["synthesize", "run/onnx", "one two", "-o", "a.wav"])
    assert result.exit_code == 0 and (tmp_path / "a.wav").stat().st_size > 1000
    assert isinstance(load("run/onnx"), Voice)


def refusal(*arguments: str) -> str:
    """Run a request that is refused; return its one line."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_unsupported_runs_get_one_line(tmp_path: Path) -> None:
    run = voice_run(tmp_path / "run", ["anna"], "dynamic_convolution")
    assert "got dynamic_convolution" in refusal("export", str(run))
    smoke = load_config("smoke_asr")
    spelling = replace(smoke, asr=replace(smoke.asr, decoder="attention"))
    run = saved(tmp_path / "recognizer", spelling, ["s"])
    assert "asr.decoder=ctc to export, got attention" in refusal("export", str(run))
    assert "no run folder or checkpoint" in refusal("export", str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("")
    assert "expected a folder" in refusal("export", str(run), "-o", str(tmp_path / "file"))


@pytest.mark.hostile
def test_damaged_export_gets_one_line(tmp_path: Path) -> None:
    run = voice_run(tmp_path / "run", ["anna"], "forward")
    export(run, tmp_path / "onnx")
    with pytest.raises(RunError, match="got a folder that was exported"):
        export(tmp_path / "onnx", tmp_path / "again")
    path = tmp_path / "onnx" / "export.json"
    values = json.loads(path.read_text())
    for changes in (
        *({"reduction": value} for value in (0, 10**12, "2", None)),
        *({"frames_per_symbol": value} for value in (float("nan"), -1, "4")),
        *({"config": {}}, {"config": []}, {"speakers": []}, {"speakers": [1]}, {"format": 1}),
        *({"graphs": {}}, {"graphs": {"network": ""}}, {"seen_symbols": ["a"]}),
    ):
        path.write_text(json.dumps(values | changes))
        with pytest.raises(RunError, match=r"export\.json: "):
            load(tmp_path / "onnx")
    for text in ("", "[]", "{}", '{"format": 1}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(RunError, match=r"export\.json: damaged"):
            load(tmp_path / "onnx")
    broken = tmp_path / "onnx" / "step.onnx"
    whole = broken.read_bytes()
    path.write_text(json.dumps(values))
    for content in (b"not a graph", whole[:-1], None):
        broken.unlink() if content is None else broken.write_bytes(content)
        with pytest.raises(RunError, match=r"step\.onnx: missing, damaged or of another export"):
            load(tmp_path / "onnx")
    broken.write_bytes(b"not a graph")
    values["graphs"]["step"] = graph_hash(broken)
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"step\.onnx: not a graph that onnxruntime reads"):
        load(tmp_path / "onnx")


@pytest.mark.hostile
def test_graphs_that_do_not_fit_the_settings_are_one_line(tmp_path: Path) -> None:
    run = voice_run(tmp_path / "run", ["anna"], "forward")
    export(run, tmp_path / "onnx")
    path = tmp_path / "onnx" / "export.json"
    values = json.loads(path.read_text())
    values["config"]["audio"]["n_mels"] += 1
    path.write_text(json.dumps(values))
    message = refusal("synthesize", str(tmp_path / "onnx"), "one", "-o", str(tmp_path / "a.wav"))
    assert "does not fit export.json" in message
    values["config"]["audio"]["n_mels"] -= 1
    path.write_text(json.dumps(values | {"reduction": values["reduction"] + 1}))
    message = refusal("synthesize", str(tmp_path / "onnx"), "one", "-o", str(tmp_path / "a.wav"))
    assert "expected graphs that fit export.json, got" in message and "frames a step" in message


@pytest.mark.hostile
def test_export_replaces_an_older_one_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = voice_run(tmp_path / "run", ["anna"], "forward")
    export(run, tmp_path / "onnx")
    before = {path.name: path.read_bytes() for path in (tmp_path / "onnx").iterdir()}

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("tacoskip.export.write_whole", fail)
    with pytest.raises(OSError, match="No space left"):
        export(run, tmp_path / "onnx")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "onnx").iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx", "run"]
    (tmp_path / "onnx" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"expected an empty folder or an export, got .*notes"):
        export(run, tmp_path / "onnx")
