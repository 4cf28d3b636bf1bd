"""Training of deep CBHGs with and without skips, and the cost of the probes.

    python benchmarks/deep.py --root FSDD [--steps 150] [--depths 4,16,64] [--out runs/deep]
    [--blocks plain,residual] [key=value ...]
    python benchmarks/deep.py --root FSDD --cost [--depths 4,64]

The first trains the `fsdd` recipe, small and briefly, once for each block and depth of the stacks
in encoder and post-net, everything else equal (same seed, same batches). loss: teacher-forced on
validation clips; alignment: of their speech, free running; first / last: the gradient's norm at the
first unit over that at the last, in each stack, at the start (median of the first fifth of the
steps) and at the end (of the last fifth). OUT/deep.png shows the gradient by depth and the loss.
Finished runs are not trained again.

The second prints a logged step's time with probes over that without.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timing import Comparison, Contestant, cpu_seconds, print_table

from tacoskip.audio import FrontEnd
from tacoskip.config import Config, load_config
from tacoskip.data.batches import TrainBatches
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.probes.gradients import GradientProbe
from tacoskip.run_folder import build_tacotron
from tacoskip.text import Tokenizer
from tacoskip.training import train
from tacoskip.training.board import Board
from tacoskip.training.device import replace_modules
from tacoskip.training.tasks.tts import teacher_forced_loss

Scalars = dict[str, NDArray[np.float64]]  # by tag

PLACES = ("encoder", "postnet")
SMALL = [
    *("cbhg.channels=32", "cbhg.bank_size=4", "cbhg.bank_channels=32", "cbhg.gru_channels=64"),
    *("postnet.channels=32", "postnet.bank_size=4", "postnet.bank_channels=32"),
    *("postnet.gru_channels=32", "tts.attention_rnn_channels=128", "tts.decoder_channels=128"),
    *("data.join=[1,2]", "data.batch_seconds=10", "data.max_batch=8", "data.workers=0"),
    *("train.max_minutes=0", "train.warmup_steps=30", "train.sentences=[]"),
]


def settings(arguments: argparse.Namespace, block: str, depth: int) -> Config:
    """The recipe, with both stacks of a block and depth."""
    chosen = [f"block={block}", f"cbhg.depth={depth}", f"postnet.depth={depth}"]
    chosen += [f"data.root={arguments.root}", f"run={arguments.out / f'{block}-{depth}'}"]
    chosen += [f"train.max_steps={arguments.steps}", "train.log_every=5"]
    chosen += ["train.evaluate_every=1000000", *arguments.overrides]
    config = load_config("fsdd", [*SMALL, *chosen])
    prepare(config)
    return config


def read_scalars(run: Path) -> Scalars:
    """Return the steps and values (P, 2) of every scalar in a run's events."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {
        tag: np.array([(one.step, one.value) for one in events.Scalars(tag)])
        for tag in events.Tags()["scalars"]
    }


def gradients(scalars: Scalars, place: str, when: str) -> list[float]:
    """Median gradient of every unit over the first ("start") or last fifth of the logged steps."""
    fifth = max(1, len(scalars["train/loss"]) // 5)
    part = slice(0, fifth) if when == "start" else slice(-fifth, None)
    tags = sorted(tag for tag in scalars if tag.startswith(f"within/gradient/{place}/unit_"))
    return [float(np.median(scalars[tag][part, 1])) for tag in tags]


def measure(arguments: argparse.Namespace, block: str, depth: int) -> dict[str, Any]:
    """Train one network, unless it is there, and return its row."""
    config = settings(arguments, block, depth)
    run = Path(config.run)
    if not (run / "result.json").is_file():
        (run / "result.json").write_text(json.dumps(train(config)["last"]))
    result, scalars = json.loads((run / "result.json").read_text()), read_scalars(run)
    row = {"block": block, "depth": depth, "loss": result["loss"], "alignment": result["alignment"]}
    row["train loss"] = float(scalars["train/loss"][-4:, 1].mean())
    for place in PLACES:
        for when in ("start", "end"):
            flow = gradients(scalars, place, when)
            row[f"{place} first/last, {when}"] = flow[0] / flow[-1] if flow[-1] else float("nan")
    return row


def picture(arguments: argparse.Namespace, blocks: list[str], depths: list[int]) -> None:
    """Draw gradient by depth at the start and the end, and the loss, a column a depth."""
    figure = Figure(figsize=(3.6 * len(depths), 9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, len(depths), squeeze=False, sharey="row")
    for column, depth in enumerate(depths):
        for number, block in enumerate(blocks):
            scalars = read_scalars(arguments.out / f"{block}-{depth}")
            colour = f"C{number}"
            for row, place in enumerate(PLACES):
                axes = grid[row, column]
                for when, line in (("start", "--"), ("end", "-")):
                    flow = np.array(gradients(scalars, place, when))
                    flow[flow <= 0] = np.nan
                    axes.plot(flow, line, color=colour, label=f"{block}, {when}")
                axes.set(yscale="log", title=f"{place}, {depth} units", xlabel="unit")
            grid[2, column].plot(*scalars["train/loss"].T, color=colour, label=block)
        grid[2, column].set(title=f"training loss, {depth} units", xlabel="step")
    for axes in grid[:, 0]:
        axes.legend(fontsize=8)
    grid[0, 0].set_ylabel("gradient norm at the unit's input")
    figure.savefig(arguments.out / "deep.png", dpi=110)


def cost(arguments: argparse.Namespace, block: str, depth: int) -> dict[str, Any]:
    """Step time with the probes over step time without, alternating on one batch."""
    config = settings(arguments, block, depth)
    corpus, tokenizer = PreparedCorpus.of(config), Tokenizer(config.text)
    inputs = config.data, FrontEnd(config.audio), tokenizer, corpus.speakers
    batch = next(TrainBatches(corpus.train, *inputs, seed=config.seed))
    model = build_tacotron(config, len(tokenizer), len(corpus.speakers))
    replace_modules(model.train(), torch.device("cpu"), "no")
    probe = GradientProbe(model)

    def step(board: Board | None) -> None:
        if board:
            probe.watch()
        loss, _ = teacher_forced_loss(model, batch)
        model.zero_grad()
        loss.backward()
        if board:
            board.probes(probe.read(), 0)

    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder))
        both = [Contestant(str(one), partial(step, one)) for one in (board, None)]
        Comparison("", "", 0, both).run(12, cpu_seconds)
        board.close()
    ratio = median(both[0].seconds) / median(both[1].seconds)
    every = load_config("fsdd").train.log_every
    row = {"block": block, "depth": depth, "a logged step": ratio}
    return row | {f"all steps (log_every={every})": 1 + (ratio - 1) / every}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the FSDD recordings")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--depths", default="4,16,64")
    parser.add_argument("--blocks", default="plain,residual")
    parser.add_argument("--out", type=Path, default=Path("runs/deep"))
    parser.add_argument("--cost", action="store_true", help="measure the cost of the probes")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    blocks, depths = arguments.blocks.split(","), list(map(int, arguments.depths.split(",")))
    row = cost if arguments.cost else measure
    print_table([row(arguments, block, depth) for depth in depths for block in blocks])
    if not arguments.cost:
        picture(arguments, blocks, depths)


if __name__ == "__main__":
    main()
