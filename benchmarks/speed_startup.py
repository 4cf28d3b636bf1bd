"""How long a command takes before it works: `tacoskip --help`, `synthesize`, and bare imports.

    python benchmarks/speed_startup.py [--run runs/demo] [--rounds 5] [--json]

Each is a process of its own. `synthesize RUN "one"` speaks a word and writes it; without --run a
network of the smoke recipe's size stands in, so that what is left is the start.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
from timing import Contestant, Race, main, parser

from tacoskip.config import load_config, to_dict
from tacoskip.run_folder import Checkpoint, build_tacotron, save_checkpoint
from tacoskip.text import Tokenizer

COMMAND = "from tacoskip.cli import main; main()"


def process(*arguments: str) -> Callable[[], object]:
    """Return a function that runs Python with these arguments and waits for its end."""
    return lambda: (
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True) and None
    )


def tiny_run(folder: Path) -> Path:
    """Write an untrained voice of the smoke recipe's size."""
    config = load_config("smoke")
    n_symbols = len(Tokenizer(config.text))
    weights = build_tacotron(config, n_symbols, 1).state_dict()
    kept = Checkpoint(to_dict(config), ["one"], n_symbols, 4.0, 1, weights, {})
    save_checkpoint(kept, folder / "checkpoints" / "best.pt")
    return folder


def races(options: argparse.Namespace) -> Iterator[Race]:
    root = Path(__file__).parents[1]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    theirs = []
    if peers.load("coqui-tts", "TTS"):
        theirs = [Contestant("coqui-tts, tts --help", process("-c", _HELP), peer=True)]
    yield Race(
        "start: --help",
        "starts",
        1,
        [
            Contestant("tacoskip --help", process("-c", COMMAND, "--help")),
            Contestant("python -c pass", process("-c", "pass")),
            *theirs,
        ],
    )
    with tempfile.TemporaryDirectory() as room:
        run = options.run or tiny_run(Path(room) / "run")
        out = str(Path(room) / "a.wav")
        speak = process("-c", COMMAND, "synthesize", str(run), "one", "-o", out)
        torch = Contestant("python -c 'import torch'", process("-c", "import torch"))
        contestants = [Contestant("tacoskip synthesize", speak), torch]
        yield Race("start: synthesize a word", "starts", 1, contestants)


_HELP = "import sys; from TTS.bin.synthesize import main; sys.argv = ['tts', '--help']; main()"

if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--run", help="a trained voice")
    parsed = arguments.parse_args()
    sys.exit(main(parsed, races(parsed)))
