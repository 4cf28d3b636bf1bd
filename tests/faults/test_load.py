"""An hour of good and bad input: memory stays flat, nothing is lost, every failure is named.

TACOSKIP_LOAD_MINUTES: how long (60); `make test-load`. `make test-faults` takes a minute.
"""

import gc
import json
import os
import random
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tacoskip.config import load_config, to_dict
from tacoskip.loading import load_recognizer, load_voice
from tacoskip.run_folder import Checkpoint, build_network, save_checkpoint
from tacoskip.text import Tokenizer
from tacoskip.text.subwords import Characters

from .conftest import Ledger

MINUTES = float(os.environ.get("TACOSKIP_LOAD_MINUTES", "60"))
RATE = 8000
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

GOOD = ("good-short.wav", "good-long.flac", "good-stereo.ogg", "good-44100.wav", "good-silence.wav")
BAD = ("cut.wav", "empty.wav", "text.wav", "missing.wav", "nan.wav", "lies.flac", "folder.wav")
TEXTS = ("one two three", "Dr. Smith paid $3.50 on 12/3/1999.", "a" * 90, "é ☃ hello", "x")
WORDLESS = ("", "...", "☃", "\0", "-- !?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice and a recognizer with random weights, recordings that are sound and that are not."""
    folder = tmp_path_factory.mktemp("load")
    torch.manual_seed(0)
    for name, recipe in (("voice", "smoke"), ("recognizer", "smoke_asr")):
        config = load_config(recipe)
        symbols = len(Tokenizer(config.text) if name == "voice" else Characters())
        model = build_network(config, symbols, 1)
        values = Checkpoint(to_dict(config), ["s"], symbols, 0.5, 1, model.state_dict(), {})
        save_checkpoint(values, folder / name / "checkpoints" / "best.pt")
    draw = np.random.default_rng(0)

    def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
        return 0.1 * draw.standard_normal((int(seconds * rate), channels))

    soundfile.write(folder / GOOD[0], noise(0.3), RATE)
    soundfile.write(folder / GOOD[1], noise(20), RATE)
    soundfile.write(folder / GOOD[2], noise(1, channels=2), RATE)
    soundfile.write(folder / GOOD[3], noise(1, 44100), 44100)
    soundfile.write(folder / GOOD[4], np.zeros(RATE), RATE)
    whole = (folder / GOOD[3]).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound\n")
    soundfile.write(folder / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    lies = bytearray((folder / GOOD[1]).read_bytes())
    lies[18:26] = struct.pack(">Q", struct.unpack(">Q", lies[18:26])[0] | (1 << 36) - 1)
    (folder / "lies.flac").write_bytes(lies)
    (folder / "folder.wav").mkdir()
    return folder


def resident() -> float:
    """Memory that this process holds, in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 1e6


def growth(samples: list[float]) -> float:
    """MB that memory grew by over the last two thirds: the slope, times their number."""
    kept = np.array(samples[len(samples) // 3 :])
    slope = np.polyfit(np.arange(len(kept)), kept, 1)[0]
    return float(slope * len(kept))


def rounds(minutes: float) -> Iterator[random.Random]:
    """Draws of one round after another, until the time is over; at least 12."""
    draw, end, number = random.Random(0), time.monotonic() + 60 * minutes, 0
    while number < 12 or time.monotonic() < end:
        number += 1
        yield draw


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "minutes",
    [
        pytest.param(0.75, marks=pytest.mark.faults),
        pytest.param(MINUTES / 2, marks=pytest.mark.load),
    ],
)
def test_memory_stays_flat_through_python(minutes: float, folder: Path, inject: Ledger) -> None:
    voice, recognizer = (
        load_voice(folder / "voice", "cpu"),
        load_recognizer(folder / "recognizer", "cpu"),
    )
    texts: dict[str, str] = {}
    waves: dict[str, np.ndarray] = {}
    memory, files, synthesized = list[float](), 0, 0
    warnings.simplefilter("ignore")
    for draw in rounds(minutes):
        names = draw.choices([*GOOD, *BAD], k=20)
        bad = sum(name in BAD for name in names)
        with inject("load: bad recordings", bad):
            transcripts = list(recognizer.transcribe_files(folder / name for name in names))
            assert [Path(t.source).name for t in transcripts] == names, "each once, in order"
            for name, transcript in zip(names, transcripts, strict=True):
                assert bool(transcript.error) == (name in BAD)
                if transcript.error:
                    assert name in transcript.error and "\n" not in transcript.error
                    continue
                assert texts.setdefault(name, transcript.text) == transcript.text
        files += len(names)
        chosen = draw.choices(TEXTS, k=3)
        for text, speech in zip(chosen, voice.synthesize(chosen), strict=True):
            assert speech.text == text and len(speech.wave) and np.isfinite(speech.wave).all()
        alone = voice.synthesize(chosen[0])
        assert np.array_equal(waves.setdefault(chosen[0], alone.wave), alone.wave)
        with inject("load: texts without words"), pytest.raises(ValueError, match="nothing to"):
            voice.synthesize([*chosen, draw.choice(WORDLESS)])
        synthesized += len(chosen) + 1
        memory.append(resident())
    grown = growth(memory)
    print(
        f"load: {files} recordings, {synthesized} texts in {minutes:g} minutes, memory "
        f"{memory[0]:.0f} MB at first, {memory[-1]:.0f} MB at the end, slope {grown:+.1f} MB"
    )
    assert grown < 20


@pytest.mark.parametrize(
    "minutes",
    [
        pytest.param(0.25, marks=pytest.mark.faults),
        pytest.param(MINUTES / 2, marks=pytest.mark.load),
    ],
)
def test_every_failure_is_named_on_the_command_line(
    minutes: float, folder: Path, tmp_path: Path, inject: Ledger
) -> None:
    def tacoskip(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from tacoskip.cli import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    draw, end, batches, files = random.Random(1), time.monotonic() + 60 * minutes, 0, 0
    while batches < 1 or time.monotonic() < end:
        batches += 1
        names = draw.choices([*GOOD, *BAD], k=12)
        bad = [name for name in names if name in BAD]
        files += len(names)
        with inject("load: bad recordings", len(bad)):
            done = tacoskip(
                *("transcribe", str(folder / "recognizer"), "--format", "json"),
                *(str(folder / name) for name in names),
            )
            assert done.returncode == (2 if bad else 0), done.stderr
            transcribed = [Path(t["file"]).name for t in json.loads(done.stdout)["transcripts"]]
            assert transcribed == [name for name in names if name in GOOD]
            errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert len(errors) == len(bad)
            assert all(name in error for name, error in zip(bad, errors, strict=True))
        lines = tmp_path / f"{batches}.txt"
        lines.write_text("\n".join(draw.choices(TEXTS, k=4)) + "\n")
        out = tmp_path / f"out-{batches}"
        done = tacoskip("synthesize", str(folder / "voice"), "-f", str(lines), "-o", str(out))
        assert done.returncode == 0, done.stderr
        assert sorted(p.name for p in out.iterdir()) == [f"{n:04d}.wav" for n in range(1, 5)]
        with inject("load: texts without words"):
            done = tacoskip("synthesize", str(folder / "voice"), draw.choice(WORDLESS[1:3]))
            assert done.returncode == 2 and done.stderr.count("error: nothing to speak") == 1
    print(f"load: {batches} batches of the command line, {files} recordings")
