"""Batches from files and from shards, in a folder and on a web server near and far.

    python benchmarks/loading.py PREPARED [--shards FOLDER] [--workers 1] [--json]

PREPARED is a folder that `tacoskip prepare` has left; its shards are written beforehand, into
FOLDER if it is given, where they stay. Every contestant builds the same batches, of a voice (mel
and linear spectrogram) and of a recognizer (mel alone), nothing kept from one to the next; the
server is a process of its own on this machine, whose answers wait --delay-ms where it
stands for one that is far away. The pages of the files are in memory: what a disk gives is not
measured. "hours" are hours of audio a second by the clock and a second of processor time, of the
first, unseen run; "opened" is how long the corpus took to open, "MB" the memory that it holds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timing import Contestant, Race, parser, processor_seconds
from timing import main as run_races

from tacoskip.audio import FrontEnd
from tacoskip.audio.settings import AudioSettings
from tacoskip.data import Corpus, DataSettings, TrainBatches
from tacoskip.data.sharding import write_shards
from tacoskip.text import TextSettings, Tokenizer

HERE = Path(__file__).parent


@contextmanager
def shards_of(prepared: Path, folder: Path | None) -> Iterator[Path]:
    """Write what is missing of a corpus' shards; yields where they are."""
    with tempfile.TemporaryDirectory() as temporary:
        written = write_shards(prepared, folder or Path(temporary))
        yield Path(written.dir)


@contextmanager
def served(folder: Path, delay_ms: float) -> Iterator[str]:
    """Serve a folder in a process of its own; yields its address."""
    command = [sys.executable, str(HERE / "range_server.py"), str(folder)]
    options = ["--port", "0", "--delay-ms", str(delay_ms)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


class Loading:
    """Builds the same batches each time it runs."""

    def __init__(self, place: str, options: argparse.Namespace, linear: bool) -> None:
        before, began = resident_mb(), time.perf_counter()
        corpus = Corpus(place)
        opened, memory = time.perf_counter() - began, resident_mb() - before
        self.figures = {"opened s": opened, "MB": memory}
        self.count = 2 if options.quick else options.batches
        data = DataSettings(workers=options.workers, cache_mb=0.0)
        self.rate = corpus.audio_sample_rate
        front_end = FrontEnd(AudioSettings(**corpus.settings["audio"]))
        self.batches = TrainBatches(
            corpus.train, data, front_end, Tokenizer(TextSettings()), corpus.speakers, linear=linear
        )
        self.hop = front_end.settings.hop_length
        self.start = self.batches.state_dict()
        self.frames = 0

    def __call__(self) -> dict[str, float]:
        self.batches.load_state_dict(self.start)
        began, worked = time.perf_counter(), processor_seconds()
        self.frames = sum(int(next(self.batches).mel_lengths.sum()) for _ in range(self.count))
        hours = self.frames * self.hop / self.rate / 3600
        figures = {
            "hours": hours / (time.perf_counter() - began),
            "hours of work": hours / (processor_seconds() - worked),
        }
        self.batches.close()
        return self.figures | figures


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def races(options: argparse.Namespace) -> Iterator[Race]:
    with (
        shards_of(options.prepared, options.shards) as shards,
        served(shards, 0) as near,
        served(shards, options.delay_ms) as far,
    ):
        for name, linear in (("a voice", True), ("a recognizer", False)):
            places = {
                "files": str(options.prepared),
                "shards, folder": str(shards),
                "shards, server": near,
                f"shards, server {options.delay_ms:g} ms away": far,
            }
            contestants = [
                Contestant(who, Loading(place, options, linear)) for who, place in places.items()
            ]
            first = contestants[0].run
            first()
            claim = f"{first.count} batches of {name}, workers: {options.workers}"
            yield Race(claim, "mel frames", first.frames, contestants)


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("prepared", type=Path)
    arguments.add_argument("--shards", type=Path, help="where they are, or shall be")
    arguments.add_argument("--batches", type=int, default=40)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--delay-ms", type=float, default=30.0)
    parsed = arguments.parse_args()
    sys.exit(run_races(parsed, races(parsed)))
