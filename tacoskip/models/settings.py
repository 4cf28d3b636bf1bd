"""Settings of the networks and their losses, apart from the networks so that they load without
torch.
"""

from dataclasses import dataclass, field
from typing import Any

from tacoskip.settings import LARGEST_SIZE, setting, size


def _attentions() -> tuple[str, ...]:
    from tacoskip.models.attention import ATTENTIONS

    return (*ATTENTIONS, "durations")


@dataclass
class CBHGSizes:
    """Widths of one CBHG (Wang et al. 2017, table 1; the encoder's values are the defaults)."""

    bank_size: int = size(16, "K: width of the widest convolution in the bank.")
    bank_channels: int = size(128, "Channels of each convolution in the bank.")
    projection_channels: int = size(
        128, "Channels of the first projection; the second returns to the input's."
    )
    depth: int = size(4, "Units in the stack of blocks; 0 takes the stack out.", least=0)
    channels: int = size(128, "Channels of the stack.")
    gru_channels: int = size(128, "Channels of the GRU, in each direction.")


@dataclass
class CBHGSettings(CBHGSizes):
    """One CBHG with its stack: the recipe's `block`, `skip`, `topology` and `block_options`.

    skip, topology: "" is the family's own. width: of the stack over `channels`, to which a linear
    layer leads back. bank, residual, gru: False takes that part out: without the bank the
    projections read the input, a linear layer replaces the GRU.
    """

    block: str = "highway"
    skip: str = ""
    topology: str = ""
    block_options: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    bank: bool = True
    residual: bool = True
    gru: bool = True

    @property
    def stack_channels(self) -> int:
        return max(2, round(self.channels * self.width))


@dataclass
class TacotronSettings:
    """Tacotron's own widths, dropouts and attention."""

    embedding_channels: int = size(256, "Channels of a symbol's embedding.")
    prenet_channels: list[int] = setting(
        [256, 128], "Channels of the pre-nets' layers.", least=1, most=LARGEST_SIZE
    )
    prenet_dropout: float = setting(0.5, "Dropout of the pre-nets.", below=1)
    frame_dropout: float = setting(
        0.5,
        "Share of the true previous frames hidden from the decoder in training, so that it reads "
        "the text (Liu et al. 2019).",
        most=1,
    )
    attention: str = setting(
        "forward",
        "Kind of attention; durations: none, a forced alignment of the recordings teaches how long "
        "each symbol lasts.",
        choices=_attentions,
    )
    attention_channels: int = size(128, "Channels of the attention's energies.")
    attention_rnn_channels: int = size(256, "Channels of the attention GRU.")
    decoder_channels: int = size(256, "Channels of the decoder GRUs.")
    speaker_channels: int = size(64, "Channels of a speaker's embedding.", least=0)
    frames_per_step: int = size(2, "r: frames a decoder step emits.")
    reduction_schedule: list[list[int]] = setting(
        [], "Pairs [step, r], the first at step 0, that lower r in training; empty: none."
    )

    def __post_init__(self) -> None:
        schedule = self.reduction_schedule
        steps = [pair[0] for pair in schedule if len(pair) == 2 and pair[1] >= 1]
        if len(steps) != len(schedule) or steps != sorted(set(steps)) or steps[:1] not in ([], [0]):
            expected = "tts.reduction_schedule = [[0, r], [step, r], ...]"
            raise ValueError(f"expected {expected} with rising steps, got {schedule}")


@dataclass
class RecognizerSettings:
    """A recognizer's own parts; each of its `layers` is a CBHG with the recipe's `cbhg` settings.

    SpecAugment (Park et al. 2019) hides parts of an utterance, in training only.
    """

    tokens: str = setting(
        "characters",
        "What it writes: characters, or subwords learned from the training texts.",
        choices=("characters", "bpe"),
    )
    bpe_size: int = setting(500, "Number of subwords, with CTC's blank.")
    decoder: str = setting(
        "ctc",
        "ctc, or attention: a second decoder spells the text and rescores CTC's best texts.",
        choices=("ctc", "attention"),
    )
    decoder_channels: int = size(
        256, "Channels of the second decoder's GRU; its attention has half as many."
    )
    subsampling: int = setting(
        2, "Mel frames to an encoder frame: a power of two.", least=1, most=64
    )
    channels: int = size(128, "Channels between the layers.")
    layers: int = size(1, "CBHGs one behind the other.")
    dropout: float = setting(0.1, "Dropout behind each CBHG.", below=1)
    time_masks: int = setting(2, "SpecAugment: stretches of time hidden.", most=LARGEST_SIZE)
    frequency_masks: int = setting(2, "SpecAugment: groups of mel bands hidden.", most=LARGEST_SIZE)
    frequency_mask_bands: int = setting(
        8, "SpecAugment: most mel bands in a group.", most=LARGEST_SIZE
    )

    def __post_init__(self) -> None:
        if self.subsampling & (self.subsampling - 1):
            raise ValueError(f"expected asr.subsampling 1, 2, 4, 8, ..., got {self.subsampling}")


@dataclass
class LossSettings:
    """Weights of the losses beside the mel frames', whose weight is 1; 0 leaves a loss out."""

    linear: float = setting(1.0, "Weight of the linear frames' loss.")
    stop: float = setting(0.5, "Weight of the stop token's loss.")
    guided: float = setting(2.0, "Pull of the attention to the diagonal (Tachibana et al. 2017).")
    sparsity: float = setting(
        0.05, "Price of every unit that a block with hard gates keeps in use."
    )
