"""Training a recognizer: CTC, and transcripts of validation clips.

B batch, T mel frames, L encoder frames, V tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.audio import FrontEnd
from tacoskip.blocks import sparsity
from tacoskip.config import Config
from tacoskip.data.batches import TrainBatches, validation_batches
from tacoskip.data.clip import Clip
from tacoskip.data.errors import CorpusError
from tacoskip.data.loading import Batch, clip_mels
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import cer, wer
from tacoskip.models.recognizer import Recognizer, RecognizerOutput, subsampled
from tacoskip.models.speller import CTC_WEIGHT
from tacoskip.recognition.decode import frames_needed, greedy_batch
from tacoskip.run_folder import build_recognizer
from tacoskip.text.letters import plain_words
from tacoskip.text.subwords import Characters, Subwords, Vocabulary
from tacoskip.training.board import Board, Panel
from tacoskip.training.losses import ctc_loss, spelling_loss

NAMED = 5  # clips that a warning names
SHOWN = 8  # decoded validation utterances in TensorBoard
UNTRAINED_STEPS, UNTRAINED_CER = 2000, 0.8


class RecognizerTask:
    """A recognizer in training; see `Task`."""

    def __init__(self, config: Config, corpus: PreparedCorpus, log: Callable[..., None]) -> None:
        self.config, self.log = config, log
        self.front_end, self.speakers = FrontEnd(config.audio), corpus.speakers
        self.seen_symbols: list[int] = []
        self.vocabulary = _vocabulary(config, corpus.train)
        self.n_symbols, self.vocabulary_model = len(self.vocabulary), self.vocabulary.model
        self.batches = TrainBatches(
            self._long_enough(corpus.train),
            config.data,
            self.front_end,
            self.vocabulary,
            corpus.speakers,
            seed=config.seed,
            linear=False,
            augment=config.augment,
        )
        self.validation = validation_batches(
            corpus.validation,
            config.data,
            self.front_end,
            self.vocabulary,
            corpus.speakers,
            joined=config.data.join[1] > 1,
            linear=False,
        )
        self.text_kind = f"{self.n_symbols} tokens ({config.asr.tokens})"
        self.model: Recognizer

    def build(self, config: Config) -> Recognizer:
        return build_recognizer(config, self.n_symbols)

    def start(self, corpus: PreparedCorpus, frames_per_symbol: float) -> None:
        self.model.take_statistics(clip_mels(self.batches.clips, self.front_end))

    def begin_step(self, step: int) -> None:
        pass

    def standardize(self, batch: Batch) -> Batch:
        return batch  # the network does, utterance by utterance

    def forward(self, model: nn.Module, batch: Batch) -> RecognizerOutput:
        return model(batch.mel, batch.mel_lengths, batch.symbols)

    def losses(self, output: RecognizerOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        share = CTC_WEIGHT if output.spelled is not None else 1.0
        losses = {
            "ctc_loss": share
            * ctc_loss(output.log_probs, output.lengths, batch.symbols, batch.symbol_lengths)
        }
        if output.spelled is not None:
            losses["spelling_loss"] = (1 - share) * spelling_loss(
                output.spelled, batch.symbols, batch.symbol_lengths
            )
        price = sparsity(self.model)
        if price is not None and self.config.loss.sparsity:
            losses["sparsity_loss"] = self.config.loss.sparsity * price
        return losses

    def counts(self, batch: Batch) -> dict[str, float]:
        symbols, rows = float(batch.symbol_lengths.sum()), len(batch)
        return {
            "ctc_loss": max(symbols, 1.0),
            "spelling_loss": symbols + rows,
            "sparsity_loss": rows,
        }

    def scalars(self, output: RecognizerOutput) -> dict[str, float]:
        # An untrained network emits only blanks.
        blank = output.log_probs.detach()[0, : int(output.lengths[0]), 0].exp().mean()
        return {"blank": float(blank)}

    def validation_loss(self, model: Recognizer, batch: Batch) -> tuple[Tensor, RecognizerOutput]:
        """CTC's loss of unchanged clips."""
        batch = batch.to(next(model.parameters()).device)
        output = model(batch.mel, batch.mel_lengths)
        loss = ctc_loss(output.log_probs, output.lengths, batch.symbols, batch.symbol_lengths)
        return loss, output

    @torch.no_grad()
    def evaluate(
        self, model: Recognizer, board: Board, frames_per_symbol: float, step: int
    ) -> dict[str, float]:
        """Return loss, cer and wer of greedy decoding; write transcripts and peaks to `board`."""
        references, transcripts, total = list[str](), list[str](), 0.0
        with board.probing(model, step):
            for batch in self.validation:
                loss, output = self.validation_loss(model, batch)
                total += float(loss)
                references += [plain_words(text, normalized=True) for text in batch.texts]
                tokens = greedy_batch(output.log_probs, output.lengths)
                transcripts += [" ".join(self.vocabulary.decode(ids).split()) for ids in tokens]
        peaks = output.log_probs[0, : int(output.lengths[0])].exp()
        mel = batch.mel[0, : int(batch.mel_lengths[0])]
        panels = [
            Panel(mel, "log mel spectrogram", "mel frame", "mel band"),
            Panel(peaks, "CTC probabilities", "encoder frame", "token (0: blank)"),
        ]
        board.picture("validation/mel_and_ctc_peaks", panels, batch.texts[0], step)
        pairs = list(zip(references, transcripts, strict=True))[:: max(1, len(references) // SHOWN)]
        rows = [f"| {reference} | {transcript} |" for reference, transcript in pairs]
        table = "\n".join(["| reference | transcript |", "|---|---|", *rows])
        board.text("validation/transcripts", table, step)
        return {
            "loss": total / len(self.validation),
            "cer": cer(references, transcripts),
            "wer": wer(references, transcripts),
        }

    def rank(self, figures: dict[str, float]) -> tuple[Any, ...]:
        select = self.config.train.select
        return -figures[select], -figures["loss"]

    def advice(self, figures: dict[str, float], step: int) -> str:
        if step < UNTRAINED_STEPS or figures["cer"] < UNTRAINED_CER:
            return ""
        return (
            f"it recognizes next to nothing yet (cer {figures['cer']:.2f}). Look at the peaks in "
            "TensorBoard; try a smaller asr.subsampling, a longer train.warmup_steps, or check "
            "that the texts match the recordings"
        )

    def _long_enough(self, clips: Sequence[Clip]) -> list[Clip]:
        """Leave out clips with fewer encoder frames than CTC needs for their text, and name them.

        The fastest augmentation counts.
        """
        audio, fastest = self.config.audio, max([1.0, *self.config.augment.speed])
        kept, short = [], []
        for clip in clips:
            tokens = self.vocabulary.encode(clip.normalized, True)
            # A joined clip needs a frame for the space before the next one.
            needed = frames_needed(tokens) + (self.config.data.join[1] > 1)
            samples = int(clip.duration * audio.sample_rate / fastest)
            frames = torch.tensor([1 + samples // audio.hop_length])
            got = int(subsampled(frames, self.config.asr.subsampling))
            if tokens and got >= needed:
                kept.append(clip)
            else:
                short.append(f"{clip.id} ({got} frames, {needed} needed)")
        if short:
            named = ", ".join(short[:NAMED]) + (", ..." if len(short) > NAMED else "")
            one = "1 clip is too short for its"
            subject = one if len(short) == 1 else f"{len(short)} clips are too short for their"
            line = f"{subject} text at asr.subsampling={self.config.asr.subsampling}: {named}"
            if not kept:
                raise CorpusError(line)
            self.log(f"{line}; left out of training", warning=True)
        return kept


def _vocabulary(config: Config, clips: Sequence[Clip]) -> Vocabulary:
    if config.asr.tokens == "characters":
        return Characters()
    try:
        return Subwords.train((clip.normalized for clip in clips), config.asr.bpe_size)
    except ValueError as error:
        raise CorpusError(str(error)) from None
