"""What a run reports: progress for the caller, events for TensorBoard."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tacoskip.config import Config
from tacoskip.training import schedule
from tacoskip.training.board import Board
from tacoskip.training.state import TrainingState


@dataclass
class Progress:
    """State of a run: every `train.log_every` steps, and with every `message`.

    share: of the run that is done, 0..1, None until it is known where the run begins. minutes: of
    training, over all resumes.
    """

    step: int = 0
    share: float | None = None
    minutes: float = 0.0
    scalars: dict[str, float] = field(default_factory=dict)
    message: str = ""
    warning: bool = False


class Reporter:
    """Reports for the main process; in the others it is silent. stack: closed with it."""

    board: Board  # of the main process alone
    state: TrainingState | None = None

    def __init__(
        self, config: Config, main: bool, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.settings, self.run, self.main = config.train, Path(config.run), main
        self.on_progress, self.stack = on_progress if main else None, ExitStack()
        self.close = self.stack.close

    def open(self, state: TrainingState, resumed: bool, events: dict[str, int] | None) -> None:
        """Begin to report a state, also after a roll-back; events: see `Checkpointer`."""
        if self.state and self.main:
            self.board.close()
        self.state = state
        if self.main:
            self.board = Board(self.run, state.step if resumed else None, events)
            self.stack.callback(self.board.close)

    def log(self, message: str, warning: bool = False) -> None:
        """Report a line."""
        self._progress(Progress(message=message, warning=warning))

    def scalars(self, scalars: dict[str, float]) -> None:
        """Report the scalars of a training step."""
        assert self.state is not None
        self.board.scalars("train", scalars, self.state.step)
        self._progress(Progress(scalars=scalars))

    def _progress(self, progress: Progress) -> None:
        if state := self.state:
            progress.step, progress.minutes = state.step, state.minutes
            progress.share = schedule.progress(self.settings, state.step, state.minutes)
        if self.on_progress:
            self.on_progress(progress)
