"""What the processes of one run say to each other; where there is but one, nothing is said.

`accelerate launch` or torchrun starts them. All take the same decisions, because what decisions
hang on is either the same sum on each or the main process' word. W processes.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

# For the processes to find each other at the start.
MEETING = timedelta(minutes=2)
# The main process evaluates and writes while the others wait: how long, at most. Whether it still
# lives is seen by the pulse.
PATIENCE = timedelta(days=1)
# A process that is killed closes its connections; one that says nothing for PULSE_TIMEOUT has lost
# its machine or its network. PARTING_SECONDS: for a process to end in order once another is gone.
PULSE_SECONDS, PULSE_TIMEOUT, PARTING_SECONDS = 1.0, timedelta(minutes=2), 5.0
# A shared folder may show late what another machine has written.
SIGHT_SECONDS = 10.0

# Under this name the launcher's store holds why a process ended before it had met the others.
EARLY = "tacoskip: ended before the meeting"
# For a process that ends so to reach that store.
STORE_SECONDS = 10.0

# What gloo says where a connection is gone.
BROKEN = ("connection", "broken pipe", "timed out", "timeout")
LOST = (
    "another process of this run has ended or cannot be reached; what it said last tells why. "
    "The same command goes on from the last checkpoint"
)

APART = (
    "the processes of this run do not reach each other. With several machines, look first whether "
    "one has ended with an error; if none has, name on each the interface that leads to others: "
    "GLOO_SOCKET_IFNAME=eth1 (docs/several-machines.md)"
)
FIRST_GONE = (
    "the first machine of this run has ended or cannot be reached; what it said last tells why"
)


class ProcessLost(RuntimeError):
    """Another process of the run is gone, and with it the run."""


def started_as_main() -> bool:
    """Whether this process is the one that shows progress, as its launcher has told it."""
    return os.environ.get("RANK", "0") == "0"


def started_alone() -> bool:
    """Whether this process is all there is of the run."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


@contextmanager
def meeting() -> Iterator[None]:
    """Turn what is raised where processes do not find each other into one line, and end this one
    where it waits for the others longer than MEETING.
    """
    if started_alone():
        yield
        return
    joined, met = distributed.is_initialized(), threading.Event()

    def watch() -> None:
        # Gloo waits five times as long as it is told for who should connect to it.
        end = time.monotonic() + MEETING.total_seconds() + PARTING_SECONDS
        try:
            store = _store()
            while not met.wait(PULSE_SECONDS) and time.monotonic() < end:
                if store.check([_early()]):
                    why = store.get(_early()).decode(errors="replace")
                    _end(f"another process of this run has ended: {why}")
        except (RuntimeError, KeyError):
            # A launcher's store is there before its processes are.
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and not met.is_set():
                _end(f"{FIRST_GONE} ({os.environ['MASTER_ADDR']})")
        if not met.wait(max(0.0, end - time.monotonic())):
            _end(APART)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if distributed.is_initialized() != joined:
            raise  # they have met, and something else is wrong
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ProcessLost(f"{APART}; torch says: {said[0]}") from error
    finally:
        met.set()
        # Python, when it ends, would unwind a thread that is still connecting through C++, which
        # aborts.
        watcher.join(STORE_SECONDS)


def _end(why: str) -> None:
    """End this process from a thread, whatever its main one waits for."""
    print(f"error: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def ended_early(error: BaseException) -> None:
    """Let the others, who would wait two minutes for this process, hear why it ends before it has
    met them: a misspelt setting, say.
    """
    met = distributed.is_available() and distributed.is_initialized()
    if met or started_alone() or isinstance(error, ProcessLost):
        return
    why = " ".join(str(error).split())[:300] or type(error).__name__
    with suppress(RuntimeError, KeyError):  # nobody keeps a store: their patience ends by itself
        store = _store()
        store.set(_early(), f"{socket.gethostname()}: {why}")
        store.check([_early()])  # an answer: it has arrived


def _store() -> distributed.TCPStore:
    """What the launcher, or the first process, keeps for all of a run. Raises RuntimeError."""
    return distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=STORE_SECONDS),
        wait_for_workers=False,
    )


def _early() -> str:
    """EARLY, of this start of the processes: torchrun may start them again."""
    return f"{EARLY} {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


class Processes:
    """This process among all of its run. `total` is what batch norms add their sums up with.

    A process that runs out of memory midway must not leave the others waiting for its part of a
    sum: every pass makes the same sums in the same order, so it says zeros for those that are left
    (`fall_silent`), and all hear afterwards that the pass was in vain.
    """

    def __init__(self, device: torch.device) -> None:
        several = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if several else 1
        self.rank = distributed.get_rank() if several else 0
        self.main = self.rank == 0
        # accelerate numbers processors too, and torch.load knows no cpu:0.
        self.device = torch.device("cpu") if device.type == "cpu" else device
        self._counted, self._said = True, 0
        self._sums: list[tuple[torch.Size, torch.dtype]] = []  # of one pass
        self._known = False  # whether they are all of a pass
        self._ending, self._leaving = threading.Event(), False
        self._pulse: threading.Thread | None = None
        self._group: Any = None
        if self.count > 1:
            with meeting():  # with GPUs, the first time that gloo connects
                group = distributed.new_group(backend="gloo", timeout=PULSE_TIMEOUT)
            self._pulse = threading.Thread(target=self._beat, args=(group,), daemon=True)
            self._pulse.start()
            with _heard():
                self._group = distributed.new_group(timeout=PATIENCE)

    def check_same(self, given: dict[str, Any]) -> None:
        """Raise ValueError where a process has other values than the main one, naming them."""
        first, *others = self.gather_objects(given)
        for rank, other in enumerate(others, 1):
            differ = [
                f"{name}={other.get(name)} ({first.get(name)} on the first)"
                for name in sorted({*first, *other})
                if first.get(name) != other.get(name)
            ]
            if differ:
                more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
                raise ValueError(
                    f"expected the same of every process of a run, got on {self._named(rank)}: "
                    f"{', '.join(differ[:3])}{more}"
                )

    def check_shared(self, folder: Path) -> None:
        """Raise ValueError unless what the main process writes into `folder` is seen by all."""
        if self.count == 1:
            return
        sign = folder / self.of_main(f"sign-{os.urandom(8).hex()}")
        if self.main:
            folder.mkdir(parents=True, exist_ok=True)
            sign.touch()
        self.wait()
        end = time.monotonic() + SIGHT_SECONDS
        while not (seen := sign.exists()) and time.monotonic() < end:
            time.sleep(0.1)
        unseen = [rank for rank, (here,) in enumerate(self.gather(seen).tolist()) if not here]
        if self.main:
            sign.unlink()
        if unseen:
            raise ValueError(
                f"{folder}: {self._named(unseen[0])} does not see what the first one writes there; "
                "run=... must be a folder that all machines share"
            )

    def _named(self, rank: int) -> str:
        """A process, for a message that all of them print: its number and machine."""
        return f"process {rank} ({self.gather_objects(socket.gethostname())[rank]})"

    def gather(self, *values: float) -> Tensor:
        """The values of every process: (W, values), double, on the CPU."""
        own = torch.tensor(values, dtype=torch.float64)
        if self.count == 1:
            return own[None]
        own = own.to(self.device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        with _heard():
            distributed.all_gather(found, own, group=self._group)
        return torch.stack(found).cpu()

    def gather_objects(self, value: T) -> list[T]:
        """The value of every process."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with _heard():
            distributed.all_gather_object(found, value, group=self._group)
        return found

    def of_main(self, value: T) -> T:
        """The main process' value."""
        if self.count == 1:
            return value
        said = [value]
        with _heard():
            distributed.broadcast_object_list(said, device=self.device, group=self._group)
        return said[0]

    def wait(self) -> None:
        """Return once every process has come here."""
        self.gather(0.0)

    def share_weights(self, model: nn.Module) -> None:
        """Give every process the main process' weights and statistics, to the bit."""
        if self.count > 1:
            with _heard(), torch.no_grad():
                for value in model.state_dict().values():
                    if value.numel():
                        distributed.broadcast(value, 0, group=self._group)

    def sum_gradients(self, model: nn.Module) -> None:
        """Add the gradients of all processes up, in place."""
        if self.count == 1:
            return
        found = [p.grad for p in model.parameters() if p.grad is not None and p.numel()]
        flat = torch.cat([gradient.reshape(-1) for gradient in found])
        with _heard():
            distributed.all_reduce(flat, group=self._group)
        parts = flat.split([gradient.numel() for gradient in found])
        for gradient, part in zip(found, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def begin_pass(self, counted: bool) -> None:
        """Begin a pass forward and back; counted: whether its rows are more than stand-ins."""
        self._counted, self._said = counted, 0

    def end_pass(self) -> None:
        self._known = True

    def total(self, own: Tensor) -> tuple[Tensor, bool]:
        """The sum of a tensor over all processes whose rows count, and whether this one's do."""
        sums = own.clone() if self._counted else torch.zeros_like(own)
        if self.count > 1:
            if not self._known:
                self._sums.append((own.shape, own.dtype))
            self._said += 1
            with _heard():
                distributed.all_reduce(sums, group=self._group)
        return sums, self._counted

    def fall_silent(self, passes: int) -> bool:
        """Say zeros for the rest of this pass and for `passes` more; whether that can be done: not
        before one pass was whole.
        """
        if self.count == 1:
            return True
        if not self._known:
            return False
        for shape, dtype in self._sums[self._said :] + passes * self._sums:
            with _heard():
                zeros = torch.zeros(shape, dtype=dtype, device=self.device)
                distributed.all_reduce(zeros, group=self._group)
        return True

    def leave(self) -> None:
        """End with an error of one's own; the others hear that something is wrong."""
        self._leaving = True
        self._ending.set()
        if self._pulse is not None:
            if threading.current_thread() is threading.main_thread():
                # The launcher stops who is left; the reason comes first.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._pulse.join(PARTING_SECONDS)

    def close(self) -> None:
        """End together with the others."""
        if self._pulse is not None:
            self.wait()
            self._ending.set()
            self._pulse.join()
            self._pulse = None
            distributed.destroy_process_group()

    def _beat(self, group: Any) -> None:
        """Meet the others once a second, so that a process that vanishes is not waited for."""
        while True:
            ending = torch.tensor([float(self._ending.is_set()), float(self._leaving)])
            try:
                distributed.all_reduce(ending, group=group)
                ends, fails = ending.tolist()
            except RuntimeError:
                ends = fails = 1.0
            # Of a failure the main thread hears too, and may say more.
            if fails and not self._leaving and not self._ending.wait(PARTING_SECONDS):
                _end(LOST)
            if ends:
                return
            self._ending.wait(PULSE_SECONDS)


@contextmanager
def _heard() -> Iterator[None]:
    """Turn what a broken connection raises into one line."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, distributed.DistError)
        if broken or any(word in str(error).lower() for word in BROKEN):
            raise ProcessLost(LOST) from error
        raise
