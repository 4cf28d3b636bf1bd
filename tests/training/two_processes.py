"""One of two processes that share a batch: `python two_processes.py FOLDER BLOCK...`.

Started by test_processes.py, which imports it for the same steps in one process. FOLDER/RANK.pt
gets losses, gradients and buffers by block and number of rows.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.run_folder import build_tacotron
from tacoskip.training.loop import Trainer
from tacoskip.training.processes import Processes, start_accelerator
from tacoskip.training.tasks.tts import VoiceTask

SYMBOLS = 10


def random_batch(config: Any, rows: int) -> Batch:
    """Random features in double precision, lengths far apart."""
    draw = torch.Generator().manual_seed(1)
    frames, symbols = torch.tensor([23, 5, 14, 9, 18][:rows]), torch.tensor([7, 2, 5, 3, 6][:rows])

    def normal(channels: int) -> Tensor:
        x = torch.randn(5, 23, channels, generator=draw, dtype=torch.float64)
        return x[:rows, : int(frames.max())]

    text = torch.randint(1, SYMBOLS, (5, 7), generator=draw)[:rows, : int(symbols.max())]
    ids = [f"clip{row}" for row in range(rows)]
    features = normal(config.audio.n_mels), normal(config.audio.n_bins)
    return Batch(text, symbols, *features, frames, torch.zeros(rows).long(), ids, ids)


def one_step(
    block: str, rows: int, accelerator: Accelerator, processes: Processes
) -> dict[str, Any]:
    """Losses, gradients and buffers of one batch on a network without random numbers."""
    config = load_config(
        "smoke", [f"block={block}", "tts.prenet_dropout=0", "tts.frame_dropout=0", "data.root=."]
    )
    torch.manual_seed(0)
    trainer, task = Trainer.__new__(Trainer), VoiceTask.__new__(VoiceTask)
    task.config, task.model = config, build_tacotron(config, SYMBOLS, 1).double()
    trainer.task, trainer.processes, trainer.accelerator = task, processes, accelerator
    trainer.state = type("State", (), {"step": 0})()  # type: ignore[assignment]
    trainer.graphs = trainer.features = None
    processes.synchronize_batch_norms(task.model)
    trainer.model = accelerator.prepare_model(task.model)
    batch = random_batch(config, rows)
    if rows >= processes.count:  # else every process takes all of them, see TrainBatches
        share: dict[str, Any] = {
            name: value[processes.rank :: processes.count]
            for name, value in vars(batch).items()
            if value is not None
        }
        batch = Batch(**share)
    totals = trainer._totals(batch)
    torch.manual_seed(1)
    losses, _ = trainer.compute_gradients(batch, totals)
    values = processes.gather(*(float(value) for value in losses.values())).sum(0)
    gradients = {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}
    buffers = dict(task.model.named_buffers())
    return {"losses": values, "gradients": gradients, "buffers": buffers}


def main() -> None:
    torch.set_num_threads(1)
    accelerator = start_accelerator("no", cpu=True)
    processes = Processes(accelerator.device)
    folder, blocks = Path(sys.argv[1]), sys.argv[2:]
    cases = [(block, rows) for block in blocks for rows in (5, 1)]
    results = {case: one_step(*case, accelerator, processes) for case in cases}
    torch.save(results, folder / f"{processes.rank}.pt")
    processes.shut_down()


if __name__ == "__main__":
    main()
