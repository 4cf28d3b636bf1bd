"""Start of a command: `tacoskip --help`, `synthesize`, and bare imports.

    python benchmarks/speed_startup.py [--run runs/demo] [--rounds 5]

Each run is a process of its own. `synthesize RUN "one"` writes one word; without --run the voice is
an untrained network of the smoke recipe's size, which leaves little but the start.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import peers
from timing import Comparison, Contestant, Options, main

from tacoskip.config import load_config, to_dict
from tacoskip.run_folder import Checkpoint, build_tacotron, save_checkpoint
from tacoskip.text import Tokenizer

TACOSKIP = "from tacoskip.cli import main; main()"
COQUI = "import sys; from TTS.bin.synthesize import main; sys.argv = ['tts', '--help']; main()"


def python(name: str, *arguments: str, peer: bool = False) -> Contestant:
    """Return a contestant that runs `python -c` with these arguments and waits for its end."""
    command = [sys.executable, "-c", *arguments]
    return Contestant(name, partial(subprocess.run, command, check=True, capture_output=True), peer)


def tiny_run(folder: Path) -> Path:
    """Write an untrained voice of the smoke recipe's size."""
    config = load_config("smoke")
    n_symbols = len(Tokenizer(config.text))
    weights = build_tacotron(config, n_symbols, 1).state_dict()
    checkpoint = Checkpoint(to_dict(config), ["one"], n_symbols, 4.0, 1, weights, {})
    save_checkpoint(checkpoint, folder / "checkpoints" / "best.pt")
    return folder


def comparisons(options: Options) -> Iterator[Comparison]:
    root = Path(__file__).parents[1]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    contestants = [python("tacoskip --help", TACOSKIP, "--help"), python("python -c pass", "pass")]
    if peers.load("coqui-tts", "TTS"):
        contestants.append(python("coqui-tts, tts --help", COQUI, peer=True))
    yield Comparison("start: --help", "starts", 1, contestants)
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or str(tiny_run(Path(folder) / "run"))
        words = ("synthesize", run, "one", "-o", str(Path(folder) / "a.wav"))
        contestants = [
            python("tacoskip synthesize", TACOSKIP, *words),
            python("python -c 'import torch'", "import torch"),
        ]
        yield Comparison("start: synthesize a word", "starts", 1, contestants)


if __name__ == "__main__":
    sys.exit(main(__doc__, comparisons, run=""))
