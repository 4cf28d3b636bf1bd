"""Settings of the networks and their losses, apart from the networks so that they load without
torch.
"""

from dataclasses import dataclass, field


@dataclass
class CBHGSettings:
    """One CBHG (Wang et al. 2017, table 1; the encoder's values are the defaults).

    bank_size: K, the widest convolution of the bank. projection_channels: width of the first
    projection; the second returns to the input's width, so that the residual can be added. block,
    skip, topology: family of the stack between projections and GRU, and what replaces its own skip
    and topology ("" takes the recipe's `block`, `skip`, `topology`); their options go in
    `block_options`. bank, residual, gru: False takes that part out, as depth 0 does the stack: a
    linear layer stands where the GRU was, the projections read the input itself.
    """

    bank_size: int = 16
    bank_channels: int = 128
    projection_channels: int = 128
    block: str = ""
    skip: str = ""
    topology: str = ""
    block_options: dict[str, float | int | str | bool] = field(default_factory=dict)
    depth: int = 4
    channels: int = 128
    gru_channels: int = 128
    bank: bool = True
    residual: bool = True
    gru: bool = True


@dataclass
class TacotronSettings:
    """Tacotron's widths. `frames_per_step` is r; `reduction_schedule` lowers it while training.

    reduction_schedule: pairs [step, r], the first at step 0; empty keeps `frames_per_step`
    throughout. The largest r is the number of frames the output layer has room for. frame_dropout:
    share of the true last frames that training hides from the decoder, so that it learns to read
    the text instead of only going on with what it hears (Liu et al. 2019, "Maximizing mutual
    information for Tacotron"). attention: a name in `tacoskip.models.attention.ATTENTIONS`.
    """

    embedding_channels: int = 256
    prenet_channels: list[int] = field(default_factory=lambda: [256, 128])
    prenet_dropout: float = 0.5
    frame_dropout: float = 0.5
    attention: str = "forward"
    attention_channels: int = 128
    attention_rnn_channels: int = 256
    decoder_channels: int = 256
    speaker_channels: int = 64
    frames_per_step: int = 2
    reduction_schedule: list[list[int]] = field(default_factory=list)


@dataclass
class RecognizerSettings:
    """A recognizer's own parts; each of its `layers` is a CBHG with the recipe's `cbhg` settings.

    tokens: what it writes, characters or bpe: `bpe_size` subwords learnt from the training texts,
    CTC's blank among them.
    subsampling: mel frames to one of the encoder's, a power of two; a strided convolution halves
    their number. dropout: behind each CBHG. SpecAugment (Park et al. 2019), in training only:
    `time_masks` stretches of at most `time_mask_share` of an utterance and `frequency_masks` of at
    most `frequency_mask_bands` mel bands are hidden. corpus_seconds: how much of the corpus counts
    beside an utterance when its bands are normalised; 0 leaves it to the utterance alone. decoder:
    ctc, or attention: a second decoder spells the text with an `attention` of the voice's; the loss
    is `ctc_weight` of CTC's and the rest of the speller's, and so are the scores by which the best
    of CTC's texts is chosen.
    """

    tokens: str = "characters"
    bpe_size: int = 500
    decoder: str = "ctc"
    ctc_weight: float = 0.3
    attention: str = "location"
    attention_channels: int = 128
    decoder_channels: int = 256
    corpus_seconds: float = 3.0
    subsampling: int = 2
    channels: int = 128
    layers: int = 1
    dropout: float = 0.1
    time_masks: int = 2
    time_mask_share: float = 0.1
    frequency_masks: int = 2
    frequency_mask_bands: int = 8


@dataclass
class LossSettings:
    """Weights of the losses; a weight of 0 leaves its loss out.

    guided: pull of the attention to the diagonal (Tachibana et al. 2017), `guided_sigma` wide,
    faded out linearly over `guided_steps` (0: kept). sparsity: price of every unit that a block
    with hard gates (dynamic, deactivable) keeps in use.
    """

    mel: float = 1.0
    linear: float = 1.0
    stop: float = 0.5
    stop_positive: float = 5.0
    guided: float = 2.0
    guided_sigma: float = 0.2
    guided_steps: int = 0
    sparsity: float = 0.05
