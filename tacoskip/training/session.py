"""Everything a training run carries from step to step: network, averages, data, counters, run
folder.

With several processes each has a session of its own, and they stay equal; the main one evaluates,
shows and writes.
"""

import hashlib
import json
import math
import platform
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacoskip.config import Config, save_config, to_dict
from tacoskip.config_checks import field_kinds, flatten
from tacoskip.data import Batch, PreparedCorpus
from tacoskip.kernels import cpu as native
from tacoskip.kernels.accelerate import accelerate
from tacoskip.probes.gradients import GradientProbe
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tacoskip.training import schedule
from tacoskip.training.board import Board
from tacoskip.training.ema import WeightAverage
from tacoskip.training.parameter_matching import ParameterMatch, match_parameters
from tacoskip.training.processes import Processes
from tacoskip.training.tasks import TASKS

# Steps that may fail in a row before a run goes back to its newest checkpoint, with what share of
# the learning rate, and how many times before it is given up.
PATIENCE, CAUTION, ROLLBACKS = 20, 0.5, 2
# Utterances that a warning names.
NAMED = 5
# Validation batches that the study at the end of a run takes.
STUDIED = 2


# Settings that may differ between the machines of a run: what lies where, and what each can do.
OWN = ("run", "data.root", "data.dir", "data.workers", "train.threads")


def told(config: Config) -> dict[str, Any]:
    """The settings, by dotted key, that must be the same on all machines of a run."""
    values = flatten(to_dict(config), field_kinds(Config))
    return {key: value for key, value in values if key not in OWN}


@dataclass
class Progress:
    """What a watcher is told: every `train.log_every` steps, and whenever there is a `message` to
    show.
    """

    step: int
    share: float
    minutes: float
    scalars: dict[str, float] = field(default_factory=dict)
    message: str = ""
    warning: bool = False


class Session:
    """State of one run; `on_progress` is told what there is to say."""

    board: Board  # of the main process alone

    def __init__(
        self,
        config: Config,
        processes: Processes,
        on_progress: Callable[[Progress], None],
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.config, self.on_progress, self.processes = config, on_progress, processes
        self.scaler = scaler  # of the loss, in fp16
        self.run = Path(config.run)
        self.step, self.minutes = 0, 0.0
        self.failed, self.left_out = 0, 0  # steps that were not finite: in a row, in all
        self.halved = 0  # batches that had to be taken in parts
        self.caution = 1.0  # share of the learning rate that is left after steps that were not
        corpus = PreparedCorpus.of(config)
        clips = f"{len(corpus.train)} of checksum {corpus.checksum():08x}"
        processes.check_same(told(config) | {"prepared clips to train with": clips})
        processes.check_shared(self.run)
        self.speakers = corpus.speakers
        self.task = TASKS[config.task](config, corpus, self.tell)
        self.batches, self.n_symbols = self.task.batches, self.task.n_symbols
        self.match: ParameterMatch | None = None
        if config.match != "none":
            config, self.match = match_parameters(config, self.task.build)
        self.config = self.task.config = config
        self.model = self.task.model = self.task.build(config)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
        )
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}
        # The steps that `last` and the study are of: a run resumed there has their events.
        self.evaluated = self.studied = -1
        # The event files of the checkpoint that was resumed, and how much of them it vouches for.
        self.vouched: dict[str, int] | None = None
        self.frames_per_second: deque[float] = deque(maxlen=50)
        resumed = self._resume()
        if not resumed:
            self.frames_per_symbol = self._frames_per_symbol()
            self.task.start(corpus, self.frames_per_symbol)
            self._check_match()
            self._draw_apart()
        self.model.to(processes.device)
        self._accelerate()
        processes.share_weights(self.model)
        self.average = WeightAverage(self.model, config.train.ema_decay)
        if resumed:
            self.average.load(resumed.weights)
        elif processes.main:
            self._write_environment()
        if processes.main:
            self.board = self._board(resumed is not None)
        self.gradients = GradientProbe(self.model)
        self.saved_at = time.monotonic()

    def _board(self, resumed: bool) -> Board:
        return Board(self.run, self.step if resumed else None, self.vouched)

    def _accelerate(self) -> None:
        """Replace modules by faster equals; say what is not compiled on a CPU."""
        gpu = self.processes.device.type == "cuda"
        if not gpu and native.library() is None:
            self.tell(f"no compiled kernels, training will be slower: {native.missing()}")
        auto = torch.bfloat16 if gpu else torch.float32
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        dtype = dtypes.get(self.config.train.precision, auto)
        accelerate(self.model, self.processes.device, dtype)

    @property
    def share(self) -> float:
        """Share of the run that is done, 0..1."""
        return schedule.progress(self.config.train, self.step, self.minutes)

    @property
    def finished(self) -> bool:
        return self.share >= 1.0

    @property
    def checkpoint_due(self) -> bool:
        return time.monotonic() - self.saved_at > 60 * self.config.train.checkpoint_minutes

    def tell(self, message: str, warning: bool = False) -> None:
        """Show a line to whoever watches."""
        self.on_progress(Progress(self.step, self.share, self.minutes, {}, message, warning))

    def listen(self) -> None:
        """Have the probes watch the coming step, if it is one that is logged."""
        if (self.step + 1) % self.config.train.log_every == 0:
            self.gradients.watch()

    def accept(self, loss: float, norm: Tensor, ids: Sequence[str]) -> bool:
        """Whether a step may change the network: its loss and gradient are finite.

        One that is not is left out and its utterances are named; after PATIENCE in a row the run
        goes back to its newest checkpoint with half the learning rate, ROLLBACKS times at most.
        Raises FloatingPointError when that did not help either.
        """
        if math.isfinite(float(norm)) and math.isfinite(loss):
            self.failed = 0
            return True
        self.failed += 1
        self.left_out += 1
        # What the forward pass did to batch statistics is undone too, by their averages.
        for name, value in self.model.named_buffers():
            if name in self.average.weights:
                value.copy_(self.average.weights[name])
        ids = [one for own in self.processes.gather_objects(list(ids)) for one in own]
        named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
        self.tell(
            f"step {self.step}: loss or gradient is not finite, step left out ({named})", True
        )
        if self.failed >= PATIENCE:
            self._roll_back()
        return False

    def _roll_back(self) -> None:
        failed, left_out, caution = self.step, self.left_out, self.caution * CAUTION
        found = self._resume() if caution >= CAUTION**ROLLBACKS else None
        if found is None:
            raise FloatingPointError(
                f"{PATIENCE} steps in a row were not finite (last at step {failed}): "
                "lower train.learning_rate, or use train.precision=fp32"
            )
        self.average.load(found.weights)
        self.failed, self.left_out, self.caution = 0, left_out, caution
        if self.processes.main:
            self.board.close()
            self.board = self._board(resumed=True)
        self.tell(f"the learning rate is {caution:g} times the recipe's from here", True)

    def log(self, losses: dict[str, float], norm: Tensor, rate: float, output: Any) -> None:
        """Write and tell the scalars of a training step."""
        heard = self.gradients.read()
        if not self.processes.main:
            return
        scalars = losses | self.task.scalars(output)
        scalars |= {
            "gradient_norm": float(norm),
            "learning_rate": rate,
            "steps_left_out": self.left_out,
            "batches_halved": self.halved,
            "frames_per_second": sum(self.frames_per_second) / len(self.frames_per_second),
        }
        self.board.scalars("train", scalars, self.step)
        self.board.gradient_norms(self.model, self.step)
        self.board.probes(heard, self.step)
        self.on_progress(Progress(self.step, self.share, self.minutes, scalars))

    def averaged(self) -> Any:
        """The averaged network. It shares no weights with the one in training."""
        model = self.task.build(self.config)
        model.load_state_dict(self.average.weights)
        return accelerate(model.to(next(self.model.parameters()).device).eval())

    def evaluate(self) -> None:
        """Judge the averaged network on validation clips, show it, and keep it if it is the best so
        far.
        """
        self.evaluated = self.step
        if not self.processes.main:
            return
        with self._aside():
            figures = self.task.evaluate(
                self.averaged(), self.board, self.frames_per_symbol, self.step
            )
        self.board.scalars("validation", figures, self.step)
        self.board.writer.flush()
        rank = self.task.rank
        better = not self.best or rank(figures) > rank(self.best)
        line = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self.tell(f"step {self.step}: {line}" + (" (best so far)" if better else ""))
        self.last = figures
        if better:
            self.best = figures
            save_checkpoint(self._checkpoint(training=False), self.run / "checkpoints" / "best.pt")
        advice = self.task.advice(figures, self.step)
        if advice:
            self.tell(f"step {self.step}: {advice}", True)

    def save(self) -> None:
        """Write a numbered checkpoint and drop the oldest beyond `train.keep`."""
        checkpoint = self._checkpoint(training=True)
        if self.processes.main:
            # A checkpoint vouches for the events before it.
            checkpoint.training["events"] = self.board.save()
            path = self.run / "checkpoints" / f"step-{self.step:08d}.pt"
            save_checkpoint(checkpoint, path)
            for old in checkpoints(self.run)[: -self.config.train.keep]:
                old.unlink()
        self.saved_at = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Evaluate a last time, save, study the network, and sum the run up."""
        if self.evaluated != self.step:
            self.evaluate()
        self.save()
        if self.studied != self.step:
            self._study()
            self.studied = self.step
            self.save()
        self.tell(f"done: {self.step} steps in {self.minutes:.1f} minutes, {self.run}")
        summary = {
            "run": str(self.run),
            "step": self.step,
            "minutes": round(self.minutes, 2),
            "best": self.best,
            "last": self.last,
        }
        return self.processes.of_main(summary)

    def close(self) -> None:
        """Let go of what is open, however the run ended."""
        if self.processes.main:
            self.board.close()

    def _study(self) -> None:
        """Look into the averaged network, which is done."""
        if not self.processes.main:
            return
        with self._aside():
            model, batches = self.averaged(), self.task.validation[-STUDIED:]
            # The longest batches say most; they stand last.
            losses = [partial(self._validation_loss, model, batch) for batch in batches]
            self.board.study(model, losses, self.step)

    def _aside(self) -> AbstractContextManager[None]:
        """Draw random numbers that the run does not notice: looking at it must not change it."""
        device = self.processes.device
        return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def _validation_loss(self, model: Any, batch: Batch) -> Tensor:
        return self.task.validation_loss(model, batch)[0]

    def _checkpoint(self, training: bool) -> Checkpoint:
        """What to write; `training` asks every process for its part of it."""
        randoms = self.processes.gather_objects(torch.get_rng_state()) if training else []
        on_gpus = self.processes.gather_objects(self._gpu_random()) if training else []
        state = {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "batches": self.batches.state_dict(),
            "minutes": self.minutes,
            "left_out": self.left_out,
            "halved": self.halved,
            "caution": self.caution,
            "best": self.best,
            "last": self.last,
            "evaluated": self.evaluated,
            "studied": self.studied,
            "random": torch.get_rng_state(),
            "random_others": randoms[1:],
            "random_gpus": on_gpus,
        }
        return Checkpoint(
            config=to_dict(self.config),
            speakers=self.speakers,
            n_symbols=self.n_symbols,
            frames_per_symbol=self.frames_per_symbol,
            step=self.step,
            weights=self.average.weights,
            training=state if training else {},
            vocabulary=self.task.vocabulary_model,
            seen_symbols=self.task.seen_symbols,
        )

    def _resume(self) -> Checkpoint | None:
        """Go on from the newest checkpoint that can be read; one that cannot is named and passed
        over. All processes must see the same one.
        """
        found = self._newest()
        steps = self.processes.gather(found.step if found else -1)[:, 0]
        if not bool((steps == steps[0]).all()):
            raise RunError(
                f"{self.run}: its newest checkpoint is not the same on all machines; run=... must "
                "be a folder that all of them share"
            )
        return found

    def _newest(self) -> Checkpoint | None:
        for path in reversed(checkpoints(self.run)):
            try:
                found = load_checkpoint(path, self.processes.device)
            except RunError as error:
                self.tell(f"{error}; trying the one before", True)
                continue
            task = found.config.get("task")
            if task != self.config.task:
                raise RunError(
                    f"{path}: a run with task={task}, this one has task={self.config.task}; "
                    "train into another folder with run=..."
                )
            mine = self.speakers, self.n_symbols, self.task.vocabulary_model
            if mine != (found.speakers, found.n_symbols, found.vocabulary):
                raise RunError(
                    f"{path}: made with other speakers or symbols; "
                    "train into another folder with run=..."
                )
            self._load(found, path)
            self.tell(f"resumed {self.run} at step {self.step}")
            return found
        return None

    def _load(self, found: Checkpoint, path: Path) -> None:
        try:
            self.model.load_state_dict(found.training["weights"])
            self.optimizer.load_state_dict(found.training["optimizer"])
        except (RuntimeError, ValueError):
            raise RunError(
                f"{path}: made with another network; train into another folder with run=..."
            ) from None
        except Exception:  # a stranger's values can fail in any way
            raise self._nothing_to_resume(path) from None
        try:
            self._load_state(found)
        except Exception:
            raise self._nothing_to_resume(path) from None

    def _nothing_to_resume(self, path: Path) -> RunError:
        return RunError(
            f"{path}: holds no state of training to go on from; "
            "train into another folder with run=..."
        )

    def _load_state(self, found: Checkpoint) -> None:
        state = found.training
        self.batches.load_state_dict(state["batches"])
        self.step, self.minutes = found.step, float(state["minutes"])
        others = state.get("random_others", [])
        if self.processes.main:
            torch.set_rng_state(state["random"].cpu())
        elif len(others) == self.processes.count - 1:
            torch.set_rng_state(others[self.processes.rank - 1].cpu())
        else:
            self._draw_apart()
        on_gpus = state.get("random_gpus", [])
        if len(on_gpus) == self.processes.count:
            self._set_gpu_random(on_gpus[self.processes.rank])
        if self.scaler and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.left_out = state.get("left_out", 0)
        self.halved = state.get("halved", 0)
        self.caution = state.get("caution", 1.0)
        self.best, self.frames_per_symbol = state["best"], found.frames_per_symbol
        self.last = state.get("last", {})
        self.evaluated = state.get("evaluated", -1)
        self.studied = state.get("studied", -1)
        # Of runs begun before there were any, nothing is cut.
        events = state.get("events")
        self.vouched = None if events is None else {str(k): max(0, int(events[k])) for k in events}

    def _gpu_random(self) -> Tensor | None:
        """The generator of this process' GPU, where it has one."""
        device = self.processes.device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def _set_gpu_random(self, state: Tensor | None) -> None:
        if state is not None and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(state.cpu(), self.processes.device)

    def _draw_apart(self) -> None:
        """Give a process that is not the main one random numbers of its own: its rows are others,
        so must be what dropout takes from them.
        """
        if not self.processes.main:
            key = f"process {self.config.seed} {self.processes.rank} {self.step}"
            digest = hashlib.sha256(key.encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))

    def _frames_per_symbol(self) -> float:
        validation = self.task.validation
        frames = sum(int(batch.mel_lengths.sum()) for batch in validation)
        return frames / sum(int(batch.symbol_lengths.sum()) for batch in validation)

    def _check_match(self) -> None:
        """Warn when the network could not be made to cost what highway's does."""
        if self.match and not self.match.within:
            self.tell(
                f"match={self.match.by}: {self.config.block} misses highway's cost by "
                f"{self.match.percent:+.1f} %, the nearest it can come",
                True,
            )

    def _write_environment(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        save_config(self.config, self.run / "config.yaml")
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        packages = ("tacoskip", "torch", "torchaudio", "accelerate", "numpy", "librosa")
        environment = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "processes": self.processes.count,
            "threads": torch.get_num_threads(),
            "compiled_kernels": native.library() is not None,
            "device": str(next(self.model.parameters()).device),
            "packages": {name: version(name) for name in packages},
            "commit": commit.stdout.strip() or None,
            "seed": self.config.seed,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "speakers": self.speakers,
            "match": asdict(self.match) | {"percent": self.match.percent} if self.match else None,
        }
        text = json.dumps(environment, indent=2) + "\n"
        (self.run / "environment.json").write_text(text, encoding="utf-8")
