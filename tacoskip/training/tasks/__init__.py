"""What differs between training a voice and training a recognizer; the loop has the rest."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from tacoskip.config import Config
from tacoskip.data.batches import TrainBatches
from tacoskip.data.loading import Batch
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.training.board import Board
from tacoskip.training.tasks.asr import RecognizerTask
from tacoskip.training.tasks.tts import VoiceTask

__all__ = ["TASKS", "Task"]

Figures = dict[str, float]


class Task(Protocol):
    """A network with its batches, losses and evaluation.

    n_symbols: symbols of the texts; text_kind says in words what they are. vocabulary_model: a
    recognizer's subwords (`tacoskip.text.subwords`), or "". seen_symbols: ids that occur in a
    voice's training texts. log: reports a line, as a warning where asked. The loop sets config and
    model once the network's widths are settled.
    """

    config: Config
    model: Any
    n_symbols: int
    speakers: list[str]
    vocabulary_model: str
    text_kind: str
    batches: TrainBatches
    validation: list[Batch]

    def __init__(
        self, config: Config, corpus: PreparedCorpus, log: Callable[..., None]
    ) -> None: ...

    @property
    def seen_symbols(self) -> list[int]: ...

    def build(self, config: Config) -> Any:
        """Return the network of a config, freshly initialised."""

    def start(self, corpus: PreparedCorpus, frames_per_symbol: float) -> None:
        """Begin a fresh run: take the corpus' statistics, warn of what cannot be learned."""

    def begin_step(self, step: int) -> None:
        """Set what follows a schedule."""

    def standardize(self, batch: Batch) -> Batch:
        """Return a batch with features as the network takes them."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the network, as it was wrapped for training."""

    def losses(self, output: Any, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return weighted losses by TensorBoard tag; the network learns from their sum."""

    def counts(self, batch: Batch) -> Figures:
        """Return of how much each loss is the mean (frames, symbols, rows), by the same tags: what
        a part of a batch weighs in the whole. Lengths are on the CPU.
        """

    def scalars(self, output: Any) -> Figures:
        """Return what else TensorBoard shows of a training step."""

    def validation_loss(self, model: Any, batch: Batch) -> tuple[Tensor, Any]:
        """Return the loss by which networks are compared, and the network's output."""

    def evaluate(self, model: Any, board: Board, frames_per_symbol: float, step: int) -> Figures:
        """Judge a network in eval mode on the validation clips, and show it."""

    def rank(self, figures: Figures) -> tuple[Any, ...]:
        """Return the place of an evaluation among others, the best largest."""

    def advice(self, figures: Figures, step: int) -> str:
        """Say what to do about an evaluation that is not as it should be; "" for nothing."""


TASKS: dict[str, type[Task]] = {"tts": VoiceTask, "asr": RecognizerTask}
