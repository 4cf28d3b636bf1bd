"""The training loop: batches in, a run folder out. Running it again resumes."""

import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from tacoskip.config import Config
from tacoskip.training import schedule
from tacoskip.training.interrupts import Interrupts
from tacoskip.training.memory import keep_memory
from tacoskip.training.session import Progress, Session


def train(config: Config, on_progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Train a voice or a listener on its prepared corpus until `max_steps` or `max_minutes`.

    Returns a summary of the run.

    Writes the run folder; a run folder that is already there is resumed. Raises CorpusError when
    the corpus is not prepared, FloatingPointError when the loss stops being finite, and, once the
    step is whole and saved, KeyboardInterrupt of the signal that asked it to stop.
    """
    settings = config.train
    tell = on_progress or (lambda _: None)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_memory()
    set_seed(config.seed)
    torch.use_deterministic_algorithms(settings.deterministic)
    cuda = torch.cuda.is_available() and settings.device != "cpu"
    if settings.device == "cuda" and not cuda:
        raise ValueError("train.device=cuda, but torch finds no GPU here (see: tacoskip doctor)")
    precision = {"auto": "bf16" if cuda else "no", "fp32": "no"}.get(
        settings.precision, settings.precision
    )
    accelerator = Accelerator(mixed_precision=precision, cpu=not cuda)
    session = Session(config, accelerator, tell)
    task = session.task
    model, optimizer = accelerator.prepare(session.model, session.optimizer)
    clock = time.monotonic()
    with Interrupts(session.tell) as interrupts:
        while not (session.finished or interrupts.received):
            batch = next(session.batches).to(accelerator.device)
            rate = schedule.learning_rate(settings, session.step, session.minutes)
            rate *= session.caution
            for group in optimizer.param_groups:
                group["lr"] = rate
            task.begin_step(session.step)
            batch = task.standardize(batch)
            model.train()
            session.listen()
            with accelerator.autocast():
                output = task.forward(model, batch)
            losses = task.losses(output, batch, session.step)
            optimizer.zero_grad()
            accelerator.backward(losses["loss"])
            norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
            if not session.accept(losses["loss"], norm, batch.ids):
                optimizer.zero_grad()
                optimizer.step()  # moves nothing; in fp16 it lowers the scale of the loss
                continue
            optimizer.step()
            session.average.update(session.model, session.step)

            session.step += 1
            session.minutes += (time.monotonic() - clock) / 60
            spent, clock = time.monotonic() - clock, time.monotonic()
            session.frames_per_second.append(int(batch.mel_lengths.sum()) / spent)
            if session.step % settings.log_every == 0:
                scalars = session.log(losses, norm, rate, output)
                tell(Progress(session.step, session.share, session.minutes, scalars))
            if session.step % settings.evaluate_every == 0:
                session.evaluate()
            if session.checkpoint_due:
                session.save()
            clock = time.monotonic()
        if interrupts.received:
            session.save()
            raise KeyboardInterrupt(interrupts.received)
        return session.close()
