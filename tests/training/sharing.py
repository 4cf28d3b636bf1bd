"""One of two processes that share batches: `python sharing.py FOLDER`, started by test_learning.py,
which imports it too, for what one process makes of the same batches.

FOLDER/found-RANK.pt gets gradients, losses and statistics by case.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from tacoskip.config import Config, load_config
from tacoskip.data import Batch
from tacoskip.run_folder import build_tacotron
from tacoskip.training.learning import Learning, _rows
from tacoskip.training.processes import Processes
from tacoskip.training.tasks.tts import VoiceTask

# Name: rows of the batch, rows a pass of process 1 has memory for.
CASES = {"shared": (5, 99), "stand-in": (1, 99), "halved": (5, 1)}
SYMBOLS = 10


def settings() -> Config:
    """Nothing is drawn; couplings are rebuilt in backward."""
    return load_config(
        "smoke", ["block=reversible", "tts.prenet_dropout=0", "tts.frame_dropout=0", "data.root=."]
    )


def batch(rows: int) -> Batch:
    """Random features in double precision, lengths far apart."""
    config, draw = settings(), torch.Generator().manual_seed(1)
    frames, symbols = torch.tensor([23, 5, 14, 9, 18][:rows]), torch.tensor([7, 2, 5, 3, 6][:rows])

    def normal(channels: int) -> Tensor:
        x = torch.randn(5, 23, channels, generator=draw, dtype=torch.float64)
        return x[:rows, : int(frames.max())]

    text = torch.randint(1, SYMBOLS, (5, 7), generator=draw)[:rows, : int(symbols.max())]
    ids = [f"clip{row}" for row in range(rows)]
    features = normal(config.audio.n_mels), normal(config.audio.n_bins)
    return Batch(text, symbols, *features, frames, torch.zeros(rows).long(), ids, ids)


class Voice(VoiceTask):
    """A voice without a corpus; passes of more than `memory` rows fail half-way."""

    def __init__(self) -> None:
        self.config, self.memory = settings(), 99
        torch.manual_seed(0)
        self.model = build_tacotron(self.config, SYMBOLS, 1).double()

    def forward(self, model: Any, batch: Batch) -> Any:
        hook = model.decoder.register_forward_pre_hook(self._remember)
        try:
            return super().forward(model, batch)
        finally:
            hook.remove()

    def _remember(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > self.memory:
            raise torch.OutOfMemoryError("out of memory")


def found(task: Voice) -> dict[str, Any]:
    gradients = {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}
    return {"gradients": gradients, "buffers": dict(task.model.named_buffers())}


def learn(name: str, accelerator: Accelerator, processes: Processes) -> dict[str, Any]:
    """What a process learns from its rows of a case's batch."""
    task, said = Voice(), list[str]()
    rows, memory = CASES[name]
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(task.model.parameters(), 0.1))
    learning = Learning(
        task, task.model, optimizer, accelerator, processes, lambda line, _: said.append(line)
    )
    whole = batch(rows)
    own = _rows(whole, processes.rank, processes.count)
    stand_in = processes.rank >= rows
    if processes.count > 1:
        learning.try_longest(own, stand_in, 0)
        assert not found(task)["gradients"]
    task.memory = memory if processes.rank == 1 else 99
    learnt = learning.gradients(own, stand_in, 0)
    return found(task) | {"losses": learnt.losses, "parts": learnt.parts, "frames": learnt.frames}


def main() -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    processes = Processes(accelerator.device)
    results = {name: learn(name, accelerator, processes) for name in CASES}
    torch.save(results, Path(sys.argv[1]) / f"found-{processes.rank}.pt")
    processes.close()


if __name__ == "__main__":
    main()
