"""How cost grows: time and peak memory against length of text and audio, batch, corpus, depth.

    python benchmarks/scaling.py [--only text,audio] [--plots FOLDER] [--json]

Every point is a process of its own, so that its peak memory is its own; what the process holds
before it works (torch, the network) is taken off. The exponent is fitted on a log-log scale to the
upper half of the points: 1 is linear. Widths are half the paper's, so that the sweep takes minutes.

    text      synthesize: characters of one text of many sentences
    sentence  synthesize: symbols of one sentence, which take frames in proportion
    audio     transcribe: seconds of one recording
    features  mel and linear of one wave: seconds
    batch     training step, 50 symbols, 200 frames: items
    corpus    prepare: clips of 1 s
    depth     training step of the encoder's CBHG, 8 x 100: units of the stack
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from timing import machine

POINTS = {
    "text": (500, 1000, 2000, 4000, 8000),
    "sentence": (25, 50, 100, 200),
    "audio": (15, 60, 240, 960),
    "features": (10, 40, 160, 640),
    "batch": (2, 4, 8, 16, 32),
    "corpus": (50, 100, 200, 400),
    "depth": (4, 8, 16, 32, 64),
}
UNITS = {
    "text": "characters",
    "sentence": "symbols",
    "audio": "s of audio",
    "features": "s of audio",
    "batch": "items",
    "corpus": "clips",
    "depth": "units",
}
REPEATS = 3


def small() -> Any:
    """Return tacoskip's settings in half the paper's widths."""
    from tacoskip.config import Config
    from tacoskip.models.settings import CBHGSettings, TacotronSettings

    widths = {"bank_size": 8, "bank_channels": 64, "projection_channels": 64}
    cbhg = CBHGSettings(**widths, channels=64, gru_channels=64)
    tts = TacotronSettings(
        embedding_channels=128,
        prenet_channels=[128, 64],
        attention_rnn_channels=128,
        decoder_channels=128,
        frames_per_step=5,
    )
    return Config(block="highway", tts=tts, cbhg=cbhg, postnet=replace(cbhg, bank_size=8))


def work(what: str, size: int, room: Path) -> Callable[[], object]:
    """Return what is timed: the work of `size`."""
    return {
        "text": synthesis,
        "sentence": synthesis,
        "audio": transcription,
        "features": features,
        "batch": training,
        "corpus": preparation,
        "depth": stack,
    }[what](what, size, room)


def synthesis(what: str, size: int, room: Path) -> Callable[[], object]:
    import torch

    from tacoskip.run_folder import build_tacotron
    from tacoskip.synthesis import voice as inference
    from tacoskip.text import Tokenizer

    inference.REST_SECONDS = 1e6
    config = small()
    model = build_tacotron(config, len(Tokenizer(config.text)), 1).eval()
    with torch.no_grad():
        model.decoder.stop.bias.fill_(-100.0)
        model.linear_mean.fill_(-1.5)
        model.linear_std.fill_(0.5)
    voice = inference.Voice(model, config, ["one"], 2.0)
    if what == "sentence":
        inference.SENTENCE_CHARACTERS = 10**6
        return lambda: voice.synthesize(("word " * size)[:size])
    sentence = "The quick brown fox jumps over the lazy dog. "
    return lambda: voice.synthesize(sentence * (size // len(sentence)))


def transcription(what: str, size: int, room: Path) -> Callable[[], object]:
    from tacoskip.config import load_config
    from tacoskip.recognition.recognizer import SpeechRecognizer
    from tacoskip.run_folder import build_recognizer
    from tacoskip.text.subwords import Characters

    config = load_config("ljspeech_asr", ["cbhg.channels=64", "cbhg.gru_channels=64"])
    recognizer = SpeechRecognizer(build_recognizer(config, 29), config, Characters())
    path = room / "noise.wav"
    write_noise(path, size, config.audio.sample_rate)
    return lambda: recognizer.transcribe(path)


def write_noise(path: Path, seconds: float, rate: int) -> None:
    """Write noise that comes and goes, a minute at a time."""
    import soundfile

    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        left = round(seconds * rate)
        while left > 0:
            count = min(left, 60 * rate)
            level = 0.1 * (1 + np.sin(np.arange(count) * 12 / rate))
            file.write(level * random.standard_normal(count))
            left -= count


def features(what: str, size: int, room: Path) -> Callable[[], object]:
    import torch

    from tacoskip.audio import AudioSettings, FrontEnd

    front_end, wave = FrontEnd(AudioSettings()), 0.1 * torch.randn(size * 22050)
    return lambda: front_end.features(wave)


def training(what: str, size: int, room: Path) -> Callable[[], object]:
    import sizes
    from speed_training import our_loss, step

    config = small()
    model = sizes.tacotron((config.tts, config.cbhg, config.postnet))
    batch = sizes.random_batch(size, 50, 200)
    return step(model, lambda: our_loss(model, batch), "fp32")


def preparation(what: str, size: int, room: Path) -> Callable[[], object]:
    from itertools import count

    from tacoskip.data.prepare import prepare
    from tacoskip.data.settings import DataSettings

    config, source, numbers = small(), room / "corpus", count()
    (source / "wavs").mkdir(parents=True)
    for number in range(size):
        write_noise(source / "wavs" / f"clip{number}.wav", 1.0, 22050)
    lines = [f"clip{number}|one second of noise\n" for number in range(size)]
    (source / "metadata.csv").write_text("".join(lines), encoding="utf-8")

    def run() -> None:
        data = DataSettings("folder", str(source), str(room / f"prepared{next(numbers)}"))
        assert prepare(data, config.audio, config.text, jobs=1).done == size

    return run


def stack(what: str, size: int, room: Path) -> Callable[[], object]:
    import torch

    from tacoskip.models.cbhg import CBHG

    model = CBHG(128, replace(small().cbhg, depth=size))
    x, mask = torch.randn(8, 100, 128), torch.ones(8, 100, dtype=torch.bool)

    def run() -> None:
        model.zero_grad()
        model(x, mask).square().mean().backward()

    return run


def point(what: str, size: int) -> dict[str, float]:
    """Measure one point in this process: best processor time, and peak memory beyond the start."""
    with tempfile.TemporaryDirectory() as room:
        run = work(what, size, Path(room))
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(REPEATS):
            began = time.process_time()
            run()
            times.append(time.process_time() - began)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"size": size, "seconds": min(times), "memory_mb": (after - before) / 1024}


def exponent(sizes: list[float], values: list[float]) -> float:
    """Fit values ~ sizes ** exponent to the upper half of the points."""
    half = len(sizes) // 2
    kept = [(s, v) for s, v in zip(sizes[half:], values[half:], strict=True) if v > 0]
    if len(kept) < 2:
        return float("nan")
    return float(np.polyfit(*np.log(np.array(kept)).T, 1)[0])


def plot(found: dict[str, list[dict[str, float]]], folder: Path) -> Path:
    """Draw time and memory of every sweep into one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    figure = Figure(figsize=(2.6 * len(found), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, (what, points) in enumerate(found.items()):
        places = [p["size"] for p in points]
        for row, name in enumerate(("seconds", "memory_mb")):
            values = [max(p[name], 1e-3) for p in points]
            axis = axes[row][column]
            axis.loglog(places, values, "o-", markersize=3)
            first = values[-1] / places[-1]
            axis.loglog(places, [first * s for s in places], ":", color="grey")
            axis.set(xlabel=f"{what}: {UNITS[what]}")
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.xaxis.set_minor_locator(NullLocator())
        axes[0][0].set(ylabel="s of processor time")
        axes[1][0].set(ylabel="MB more at the peak")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scaling.png"
    figure.savefig(path, dpi=80)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default=",".join(POINTS), help="sweeps, by comma")
    parser.add_argument("--plots", type=Path, help="a folder for scaling.png")
    parser.add_argument("--quick", action="store_true", help="the two smallest points of each")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        what, size = options.point.split("=")
        print(json.dumps(point(what, int(size))))
        return 0
    chosen = options.only.split(",")
    unknown = set(chosen) - set(POINTS)
    if unknown:
        print(f"expected sweeps of {', '.join(POINTS)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    found: dict[str, list[dict[str, float]]] = {}
    rows = []
    for what in chosen:
        sizes = POINTS[what][:2] if options.quick else POINTS[what]
        found[what] = [_apart(what, size) for size in sizes]
        places = [p["size"] for p in found[what]]
        fitted = [exponent(places, [p[k] for p in found[what]]) for k in ("seconds", "memory_mb")]
        rows.append({"sweep": what, "time_exponent": fitted[0], "memory_exponent": fitted[1]})
    if options.plots:
        print(f"wrote {plot(found, options.plots)}", file=sys.stderr)
    if options.json:
        print(json.dumps({"machine": machine(), "points": found, "exponents": rows}))
        return 0
    print("| against | from, to | time | memory | time's exponent | memory's |")
    print(f"|{'---|' * 6}")
    for row in rows:
        points = found[row["sweep"]]
        low, high = points[0], points[-1]
        print(
            f"| {row['sweep']} | {low['size']:g} to {high['size']:g} {UNITS[row['sweep']]} | "
            f"{low['seconds']:.3g} to {high['seconds']:.3g} s | {low['memory_mb']:.0f} to "
            f"{high['memory_mb']:.0f} MB | {row['time_exponent']:.2f} | "
            f"{row['memory_exponent']:.2f} |"
        )
    return 0


def _apart(what: str, size: int) -> dict[str, float]:
    """Measure a point in a process of its own."""
    command = [sys.executable, __file__, "--point", f"{what}={size}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}={size}: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
