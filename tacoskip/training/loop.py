"""The training loop: batches in, a run folder out. Running it again resumes."""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from tacoskip.config import Config
from tacoskip.data.loading import Batch
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.kernels.accelerate import missing_for_triton
from tacoskip.probes.gradients import GradientProbe
from tacoskip.training import schedule
from tacoskip.training.checkpointer import Checkpointer, shared_settings
from tacoskip.training.cuda_graph import graphed_gradients
from tacoskip.training.device import check_device, replace_modules, set_tf32
from tacoskip.training.evaluator import Evaluator
from tacoskip.training.features import device_features
from tacoskip.training.interrupts import Interrupts
from tacoskip.training.memory import keep_memory, memory_for, rehearsal
from tacoskip.training.model_card import write_environment, write_model_card
from tacoskip.training.parameter_matching import ParameterMatch, match_parameters
from tacoskip.training.processes import Processes, one_line_errors, start_accelerator
from tacoskip.training.reporter import Progress, Reporter
from tacoskip.training.state import TrainingState, WeightAverage, new_optimizer, seed_process
from tacoskip.training.tasks import TASKS
from tacoskip.training.warm_start import load_start, start_from

# Steps in a row that may be skipped before a run goes back to its newest checkpoint, by what factor
# the learning rate falls then, and how many times before the run is given up.
MOST_SKIPPED, RATE_FACTOR, ROLL_BACKS = 20, 0.5, 2
NAMED = 5  # utterances that a warning names


def train(config: Config, on_progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Train a voice or a recognizer on its prepared corpus until `max_steps` or `max_minutes`.

    Writes the run folder, or resumes it, and returns a summary. Under torchrun or `accelerate
    launch` every process calls this; `on_progress` is called in the main one. Raises CorpusError
    when the corpus is not prepared, FloatingPointError when the loss stays infinite, OutOfMemory,
    ProcessLost when another process has ended, and KeyboardInterrupt once a signal's step is saved.
    """
    settings = config.train
    cuda, precision = check_device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_memory()
    set_seed(config.seed)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    set_tf32(cuda and settings.precision != "fp32")
    with one_line_errors():
        accelerator = start_accelerator(precision, cpu=not cuda)
        processes = Processes(accelerator.device)
        with closing(Reporter(config, processes.main, on_progress)) as reporter:
            trainer = Trainer(config, accelerator, processes, reporter)
            signal = trainer.run()
        processes.shut_down()
    if signal:
        raise KeyboardInterrupt(signal)
    return trainer.summary


class Trainer:
    """One run in this process: what it is made of, and its steps."""

    summary: dict[str, Any]

    def __init__(
        self, config: Config, accelerator: Accelerator, processes: Processes, reporter: Reporter
    ) -> None:
        self.accelerator, self.processes, self.settings = accelerator, processes, config.train
        self.reporter, self.log, device = reporter, reporter.log, processes.device
        corpus = PreparedCorpus.of(config)
        clips = f"{len(corpus.train)} of checksum {corpus.checksum():08x}"
        processes.check_same(shared_settings(config) | {"prepared clips": clips})
        self.task = task = TASKS[config.task](config, corpus, self.log)
        match: ParameterMatch | None = None
        if config.match != "none":
            task.config, match = match_parameters(config, task.build)
            if not match.within:
                self.log(match.warning, warning=True)
        task.model = network = task.build(task.config)
        task.start()
        network.to(device).train()
        task.batches.pin_memory = device.type == "cuda"
        loader = task.batches.loader
        self.features = device_features(task.front_end, loader, device, self.log)
        self.state = state = TrainingState(
            model=network,
            optimizer=new_optimizer(network, self.settings),
            average=WeightAverage(network),
            batches=task.batches,
            scaler=accelerator.scaler,
        )
        seed_process(config.seed, processes.rank, 0)
        self.checkpointer = Checkpointer(task, state, processes, self.log)
        reporter.stack.enter_context(self.checkpointer.locked())
        resumed = self.checkpointer.resume()
        if config.from_run and not resumed:
            start_from(task, state, load_start(config))
            self.log(state.started_from)
        kernels = replace_modules(network, device, accelerator.mixed_precision)
        replaced = ", ".join(name for name, count in kernels.items() if "replaced" in count)
        missing = missing_for_triton() if device.type == "cuda" else ""
        reason = f"; Triton's need {missing}" if missing else ""
        self.log(f"kernels: {replaced or 'none, plain PyTorch'}{reason}", warning=bool(missing))
        if processes.main:
            write_environment(task, state, processes, kernels, match)
        reporter.open(state, resumed, self.checkpointer.events)
        self.gradients = GradientProbe(network)
        processes.synchronize_batch_norms(network)
        self.model = accelerator.prepare_model(network)
        self.optimizer = accelerator.prepare_optimizer(state.optimizer)
        self.graphs = graphed_gradients(
            network, device, processes.count, accelerator.mixed_precision, self.log
        )
        self.evaluator = Evaluator(task, state, reporter, self.checkpointer)
        # Mel frames, seconds, and seconds of them that waited for the batch, of the newest steps.
        self.costs: deque[tuple[float, float, float]] = deque(maxlen=50)

    @property
    def finished(self) -> bool:
        return schedule.progress(self.settings, self.state.step, self.state.minutes) >= 1.0

    def run(self) -> int:
        """Train to the end, or to where a signal stops it; return the signal, or 0."""
        state, settings = self.state, self.settings
        if not self.finished:
            self._try_longest_batch()
        with Interrupts(self.log) as interrupts:
            received, _ = self._agree(interrupts)
            while not received and not self.finished:
                stepped = self.step()
                if stepped and state.step % settings.evaluate_every == 0:
                    self.evaluate()
                received, due = self._agree(interrupts)
                # The last one is saved when it is evaluated: a resume must not do so again.
                if stepped and due and not self.finished:
                    self.save()
        if received:
            self.save()
        else:
            self.finish()
        return received

    def step(self) -> bool:
        """Update the network by one batch; whether it was: a step that is not finite is skipped."""
        state, settings, began = self.state, self.settings, time.monotonic()
        batch = next(state.batches)
        waited = time.monotonic() - began
        rate = schedule.learning_rate(settings, state.step, state.minutes) * state.rate_factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.task.begin_step(state.step)
        logged = (state.step + 1) % settings.log_every == 0
        if logged and self.processes.main:
            self.gradients.watch()

        if self.graphs:
            self.graphs.eager = logged  # the board shows the network's output
        totals = self._totals(batch)
        with memory_for(batch):
            state.model.zero_grad()
            losses, output = self.compute_gradients(batch, totals)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        if not self._is_finite(losses["loss"], norm):
            self._skip(batch)
            return False
        self.optimizer.step()
        state.average.update(state.model, state.step)

        state.step += 1
        state.skipped_in_a_row = 0
        seconds = time.monotonic() - began
        state.minutes += seconds / 60
        self.costs.append((totals["frames"], seconds, waited))
        if logged:
            self._log_step(losses, output, {"gradient_norm": float(norm), "learning_rate": rate})
        return True

    def compute_gradients(
        self, batch: Batch, totals: dict[str, float]
    ) -> tuple[dict[str, Tensor], Any]:
        """Add the gradients of a batch; return its losses and output.

        Losses are means over frames, symbols or rows; each weighs its share of the `totals` of the
        whole batch, over all processes.
        """
        counts = self.task.counts(batch)
        shares = {name: count / totals[name] for name, count in counts.items()}
        batch = batch.to(self.processes.device, non_blocking=True)
        if self.features:
            batch = self.features(batch)
        compute = partial(self._add_gradients, shares=shares)
        if self.graphs is None:
            return compute(batch)
        return self.graphs(batch, compute, all(share == 1 for share in shares.values()))

    def _add_gradients(
        self, batch: Batch, shares: dict[str, float]
    ) -> tuple[dict[str, Tensor], Any]:
        """Add the gradients of losses times their shares, of a batch on the device."""
        batch = self.task.standardize(batch)
        with self.accelerator.autocast():
            output = self.task.forward(self.model, batch)
        losses = {
            name: value * shares[name] for name, value in self.task.losses(output, batch).items()
        }
        loss = torch.stack(list(losses.values())).sum()
        self.accelerator.backward(loss * self.processes.count)  # DDP divides by it
        return {name: value.detach() for name, value in (losses | {"loss": loss}).items()}, output

    def evaluate(self) -> None:
        """Evaluate in the main process; the others wait at their next decision."""
        self.state.evaluated = self.state.step
        if self.processes.main:
            self.evaluator.evaluate()

    def save(self) -> None:
        """Write a checkpoint; it vouches for the events before it."""
        self.checkpointer.save(self.reporter.board.save() if self.processes.main else None)

    def finish(self) -> None:
        """Evaluate a last time, analyze the network, and set the summary."""
        state, run = self.state, self.task.config.run
        self.save()  # an interrupt may end what follows
        if state.evaluated != state.step:
            self.evaluate()
        if state.analyzed != state.step:
            if self.processes.main:
                self.evaluator.analyze()
            state.analyzed = state.step
        self.save()
        if self.processes.main:
            write_model_card(self.task, state)
        self.log(f"done: {state.step} steps in {state.minutes:.1f} minutes, {run}")
        summary = {"run": run, "step": state.step, "minutes": round(state.minutes, 2)}
        summary |= {"best": state.best, "last": state.last, "clips": state.clips}
        self.summary = self.processes.broadcast(summary)

    def _agree(self, interrupts: Interrupts) -> tuple[int, bool]:
        """A signal that any process received (or 0), and whether a checkpoint is due.

        The clock of all is the main process'.
        """
        values = self.processes.gather(
            interrupts.received, self.state.minutes, self.checkpointer.due
        )
        self.state.minutes = float(values[0, 1])
        return int(values[:, 0].max()), bool(values[0, 2])

    def _totals(self, batch: Batch) -> dict[str, float]:
        """What each loss of the whole batch is a mean of, and its mel frames, on all processes."""
        counts = self.task.counts(batch) | {"frames": float(batch.mel_lengths.sum())}
        sums = self.processes.gather(*counts.values()).sum(0).tolist()
        return dict(zip(counts, sums, strict=True))

    def _try_longest_batch(self) -> None:
        """Compute the gradient of the longest batch at the reduction with the most steps."""
        self.task.begin_step(self.settings.max_steps)
        batch = self.state.batches.longest()
        model, averages = self.state.model, 0 if self.state.optimizer.state else 2
        with memory_for(batch), rehearsal(model, self.processes.device):
            # The optimizer's averages must fit beside it.
            reserved = [torch.empty_like(p) for p in model.parameters() for _ in range(averages)]
            self.compute_gradients(batch, self._totals(batch))
            del reserved

    def _is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether loss and gradient are finite in every process: the step's only wait for a GPU."""
        failed = not bool(torch.isfinite(loss) & torch.isfinite(norm))
        return not self.processes.gather(failed).any()

    def _skip(self, batch: Batch) -> None:
        """Leave a step out that is not finite, naming its clips; after MOST_SKIPPED in a row, go
        back to the newest checkpoint with half the learning rate.
        """
        state = self.state
        self.optimizer.zero_grad()
        self.optimizer.step()  # changes nothing; in fp16 it lowers the scale of the loss
        state.skipped_in_a_row += 1
        state.steps_skipped += 1
        # The forward pass has changed batch statistics; their averages are finite.
        for name, value in state.model.named_buffers():
            if name in state.average.weights:
                value.copy_(state.average.weights[name])
        ids = [id for ids in self.processes.gather_objects(batch.ids) for id in ids]
        named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
        reason = "loss or gradient is not finite, step skipped"
        self.log(f"step {state.step}: {reason} ({named})", warning=True)
        if state.skipped_in_a_row >= MOST_SKIPPED:
            self._roll_back()

    def _roll_back(self) -> None:
        state = self.state
        failed, skipped, factor = state.step, state.steps_skipped, state.rate_factor * RATE_FACTOR
        if factor < RATE_FACTOR**ROLL_BACKS or not self.checkpointer.resume():
            raise FloatingPointError(
                f"{MOST_SKIPPED} steps in a row were not finite (last at step {failed}): "
                "lower train.learning_rate, or use train.precision=fp32"
            )
        state.skipped_in_a_row, state.steps_skipped, state.rate_factor = 0, skipped, factor
        self.reporter.open(state, True, self.checkpointer.events)
        self.log(f"the learning rate is {factor:g} times the recipe's from here", warning=True)

    def _log_step(self, losses: dict[str, Tensor], output: Any, more: dict[str, float]) -> None:
        local = torch.stack(list(losses.values())).tolist()
        sums = self.processes.gather(*local).sum(0).tolist()
        if not self.processes.main:
            return
        state, board = self.state, self.reporter.board
        scalars = dict(zip(losses, sums, strict=True)) | self.task.scalars(output) | more
        scalars["steps_skipped"] = state.steps_skipped
        frames, seconds, waited = (sum(values) for values in zip(*self.costs, strict=True))
        scalars["frames_per_second"], scalars["loader_share"] = frames / seconds, waited / seconds
        self.reporter.scalars(scalars)
        board.gradient_norms(state.model, state.step)
        board.probes(self.gradients.read(), state.step)
