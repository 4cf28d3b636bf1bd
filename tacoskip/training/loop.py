"""The training loop: batches in, a run folder out. Running it again resumes."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, set_seed

from tacoskip.config import Config
from tacoskip.training import schedule
from tacoskip.training.interrupts import Interrupts
from tacoskip.training.learning import Learning
from tacoskip.training.memory import keep_memory
from tacoskip.training.processes import MEETING, Processes, meeting
from tacoskip.training.session import Progress, Session

# One process, or several that each hold the whole network.
KINDS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


def train(config: Config, on_progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Train a voice or a recognizer on its prepared corpus until `max_steps` or `max_minutes`.

    Returns a summary of the run.

    Writes the run folder; a run folder that is already there is resumed. Started by `accelerate
    launch` or torchrun, every process calls this; `on_progress` hears of the main one. Raises
    CorpusError when the corpus is not prepared, FloatingPointError when the loss stops being
    finite, TooLong when memory does not hold one clip, ProcessLost when another process is gone,
    and, once the step is whole and saved, KeyboardInterrupt of the signal that asked it to stop.
    """
    settings = config.train
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_memory()
    set_seed(config.seed)
    torch.use_deterministic_algorithms(settings.deterministic)
    cuda = torch.cuda.is_available() and settings.device != "cpu"
    if settings.device == "cuda" and not cuda:
        raise ValueError("train.device=cuda, but torch finds no GPU here (see: tacoskip doctor)")
    if settings.precision == "fp16" and not cuda:
        raise ValueError("train.precision=fp16 needs a GPU; a CPU takes bf16 or fp32")
    precision = {"auto": "bf16" if cuda else "no", "fp32": "no"}.get(
        settings.precision, settings.precision
    )
    with meeting():
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=not cuda,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=MEETING)],
        )
    if accelerator.distributed_type not in KINDS:
        raise ValueError(
            f"expected accelerate to start plain processes, got {accelerator.distributed_type}: "
            "every process holds the whole network here"
        )
    processes = Processes(accelerator.device)
    tell = (on_progress if processes.main else None) or (lambda _: None)
    try:
        with closing(Session(config, processes, tell, accelerator.scaler)) as session:
            summary = _run(session, accelerator)
    except BaseException:
        processes.leave()
        raise
    processes.close()
    if isinstance(summary, KeyboardInterrupt):
        raise summary
    return summary


def _run(session: Session, accelerator: Accelerator) -> dict[str, Any] | KeyboardInterrupt:
    """Carry a session to its end, or to where a signal stopped it."""
    processes, settings, task = session.processes, session.config.train, session.task
    # Not wrapped for several processes: `Learning` adds gradients up, once a step.
    model = accelerator.prepare_model(session.model, evaluation_mode=True)
    optimizer = accelerator.prepare_optimizer(session.optimizer)
    learning = Learning(task, model, optimizer, accelerator, processes, session.tell)
    if not session.finished:
        longest = session.batches.longest()
        learning.try_longest(longest, session.batches.placeholder, settings.max_steps)
    clock = time.monotonic()
    with Interrupts(session.tell) as interrupts:
        while True:
            said = processes.gather(interrupts.received, session.minutes)
            received, session.minutes = int(said[:, 0].max()), float(said[0, 1])
            if session.finished or received:
                break
            batch = next(session.batches)
            rate = schedule.learning_rate(settings, session.step, session.minutes)
            rate *= session.caution
            for group in optimizer.param_groups:
                group["lr"] = rate
            task.begin_step(session.step)
            session.listen()
            learnt = learning.gradients(batch, session.batches.placeholder, session.step)
            norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
            if not session.accept(learnt.losses["loss"], norm, batch.ids):
                optimizer.zero_grad()
                optimizer.step()  # moves nothing; in fp16 it lowers the scale of the loss
                continue
            optimizer.step()
            session.average.update(session.model, session.step)

            session.step += 1
            session.halved += learnt.parts > 1
            session.minutes += (time.monotonic() - clock) / 60
            spent, clock = time.monotonic() - clock, time.monotonic()
            session.frames_per_second.append(learnt.frames / spent)
            if session.step % settings.log_every == 0:
                session.log(learnt.losses, norm, rate, learnt.output)
            if session.step % settings.evaluate_every == 0:
                session.evaluate()
            # The last one is saved when it is judged: a resume must not judge it again.
            if processes.of_main(session.checkpoint_due and not session.finished):
                session.save()
            clock = time.monotonic()
        if received:
            session.save()
            return KeyboardInterrupt(received)
        return session.finish()
