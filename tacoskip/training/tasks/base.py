"""What differs between training a voice and training a recognizer; the loop has the rest."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from tacoskip.audio import FrontEnd
from tacoskip.blocks import sparsity
from tacoskip.config import Config
from tacoskip.data.batches import TrainBatches, validation_batches
from tacoskip.data.clip import Clip
from tacoskip.data.loading import Batch
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.run_folder import build_network
from tacoskip.training.board import Board

Figures = dict[str, float]


class Task(ABC):
    """A network with its batches, losses and evaluation.

    encoder: turns texts into symbols; text_kind says what they are. vocabulary_model: a
    recognizer's subwords, or "". log: reports a line. clips: by figure, its value on each
    validation clip at the last evaluation. The loop sets config and model once the network's widths
    are settled.
    """

    model: Any
    text_kind: str
    vocabulary_model = ""

    def __init__(
        self,
        config: Config,
        corpus: PreparedCorpus,
        log: Callable[..., None],
        encoder: Any,
        clips: Sequence[Clip],
    ) -> None:
        self.config, self.log, self.speakers = config, log, corpus.speakers
        self.front_end, self.encoder = FrontEnd(config.audio), encoder
        self.n_symbols, self.clips = len(encoder), dict[str, list[float]]()
        asr = config.task == "asr"
        common = config.data, self.front_end, encoder, corpus.speakers
        self.batches = TrainBatches(
            clips, *common, seed=config.seed, linear=not asr, augment=config.augment
        )
        joined = asr and config.data.join[1] > 1
        self.validation = validation_batches(
            corpus.validation, *common, joined=joined, linear=not asr
        )
        symbols = sum(int(batch.symbol_lengths.sum()) for batch in self.validation)
        frames = sum(int(batch.mel_lengths.sum()) for batch in self.validation)
        self.frames_per_symbol = frames / symbols

    @property
    def seen_symbols(self) -> list[int]:
        """Ids that occur in a voice's training texts."""
        return []

    def build(self, config: Config) -> Any:
        """Return the network of a config, freshly initialised."""
        return build_network(config, self.n_symbols, len(self.speakers))

    @abstractmethod
    def start(self) -> None:
        """Begin a fresh run: take the corpus' statistics, warn of what cannot be learned."""

    @abstractmethod
    def begin_step(self, step: int) -> None:
        """Set what follows a schedule."""

    def standardize(self, batch: Batch) -> Batch:
        """Return a batch with features as the network takes them."""
        return batch

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the network, as it was wrapped for training."""

    @abstractmethod
    def losses(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """Return weighted losses by TensorBoard tag; the network learns from their sum."""

    def sparsity_loss(self) -> dict[str, Tensor]:
        """Return the price of the stacks' open gates, where they have one."""
        price, weight = sparsity(self.model), self.config.loss.sparsity
        return {"sparsity_loss": weight * price} if price is not None and weight else {}

    @abstractmethod
    def counts(self, batch: Batch) -> Figures:
        """Return of how much each loss is the mean (frames, symbols, rows), by the same tags: what
        a part of a batch weighs in the whole. Lengths are on the CPU.
        """

    @abstractmethod
    def scalars(self, output: Any) -> Figures:
        """Return what else TensorBoard shows of a training step."""

    @abstractmethod
    def validation_loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Any]:
        """Return the loss by which networks are compared, a scalar, that of each clip (B,), and the
        network's output.
        """

    @abstractmethod
    def evaluate(self, model: Any, board: Board, step: int) -> Figures:
        """Judge a network in eval mode on the validation clips, and show it."""

    @abstractmethod
    def rank(self, figures: Figures) -> tuple[Any, ...]:
        """Return the place of an evaluation among others, the best largest."""

    @abstractmethod
    def advice(self, figures: Figures) -> str:
        """Say what to do about a run that has learned next to nothing yet, or ""."""
