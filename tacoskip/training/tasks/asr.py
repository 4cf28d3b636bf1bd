"""Training a recognizer: CTC, and transcripts of validation clips."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.config import Config
from tacoskip.data.clip import Clip
from tacoskip.data.errors import CorpusError
from tacoskip.data.loading import Batch, clip_mels
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import (
    cer,
    character_errors,
    over_mean_length,
    wer,
    word_errors,
)
from tacoskip.masks import subsampled
from tacoskip.models.recognizer import Recognizer, RecognizerOutput
from tacoskip.models.speller import CTC_WEIGHT
from tacoskip.recognition.decode import frames_needed, greedy_batch
from tacoskip.text.letters import plain_words
from tacoskip.text.subwords import Characters, Subwords, Vocabulary
from tacoskip.training.board import Board, Panel, mel_panel
from tacoskip.training.losses import ctc_loss, ctc_losses, spelling_loss
from tacoskip.training.tasks.base import Figures, Task

NAMED = 5  # clips that a warning names
SHOWN = 8  # decoded validation utterances in TensorBoard
UNTRAINED_CER = 0.8


class RecognizerTask(Task):
    """A recognizer in training; see `Task`."""

    model: Recognizer

    def __init__(self, config: Config, corpus: PreparedCorpus, log: Callable[..., None]) -> None:
        vocabulary = _vocabulary(config, corpus.train)
        clips, warning = _long_enough(config, corpus.train, vocabulary)
        if warning:
            log(f"{warning}; left out of training", warning=True)
        super().__init__(config, corpus, log, vocabulary, clips)
        self.vocabulary_model = vocabulary.model
        self.text_kind = f"{self.n_symbols} tokens ({config.asr.tokens})"

    def start(self) -> None:
        self.model.take_statistics(clip_mels(self.batches.clips, self.front_end))

    def begin_step(self, step: int) -> None:
        pass

    def forward(self, model: nn.Module, batch: Batch) -> RecognizerOutput:
        return model(batch.mel, batch.mel_lengths, batch.symbols)

    def losses(self, output: RecognizerOutput, batch: Batch) -> dict[str, Tensor]:
        texts = batch.symbols, batch.symbol_lengths
        loss = ctc_loss(output.log_probs, output.lengths, *texts)
        if output.spelled is None:
            return {"ctc_loss": loss} | self.sparsity_loss()
        spelling = (1 - CTC_WEIGHT) * spelling_loss(output.spelled, *texts)
        return {"ctc_loss": CTC_WEIGHT * loss, "spelling_loss": spelling} | self.sparsity_loss()

    def counts(self, batch: Batch) -> Figures:
        symbols, rows = float(batch.symbol_lengths.sum()), len(batch)
        return {
            "ctc_loss": max(symbols, 1.0),
            "spelling_loss": symbols + rows,
            "sparsity_loss": rows,
        }

    def scalars(self, output: RecognizerOutput) -> Figures:
        # An untrained network emits only blanks.
        blank = output.log_probs.detach()[0, : int(output.lengths[0]), 0].exp().mean()
        return {"blank": float(blank)}

    def validation_loss(
        self, model: Recognizer, batch: Batch
    ) -> tuple[Tensor, Tensor, RecognizerOutput]:
        """CTC's loss of unchanged clips."""
        batch = batch.to(next(model.parameters()).device)
        output = model(batch.mel, batch.mel_lengths)
        counts = batch.symbol_lengths
        losses = ctc_losses(output.log_probs, output.lengths, batch.symbols, counts)
        losses = losses.to(counts.device)
        return losses.sum() / counts.sum().clamp(min=1), losses / counts.clamp(min=1), output

    @torch.no_grad()
    def evaluate(self, model: Recognizer, board: Board, step: int) -> Figures:
        """Return loss, cer and wer of greedy decoding; write transcripts and peaks to `board`."""
        references, transcripts, total = list[str](), list[str](), 0.0
        losses = list[float]()
        with board.probing(model, step):
            for batch in self.validation:
                loss, of_clips, output = self.validation_loss(model, batch)
                total += float(loss)
                losses += of_clips.tolist()
                references += [plain_words(text, normalized=True) for text in batch.texts]
                tokens = greedy_batch(output.log_probs, output.lengths)
                transcripts += [" ".join(self.encoder.decode(ids).split()) for ids in tokens]
        peaks = output.log_probs[0, : int(output.lengths[0])].exp()
        panels = [
            mel_panel(batch.mel[0, : int(batch.mel_lengths[0])], "log mel spectrogram"),
            Panel(peaks, "CTC probabilities", "encoder frame", "token (0: blank)"),
        ]
        board.picture("validation/mel_and_ctc_peaks", panels, batch.texts[0], step)
        pairs = list(zip(references, transcripts, strict=True))[:: max(1, len(references) // SHOWN)]
        rows = [f"| {reference} | {transcript} |" for reference, transcript in pairs]
        table = "\n".join(["| reference | transcript |", "|---|---|", *rows])
        board.writer.add_text("validation/transcripts", table, step)
        self.clips = {
            name: over_mean_length([*map(count, references, transcripts)])
            for name, count in (("wer", word_errors), ("cer", character_errors))
        } | {"loss": losses}
        return {
            "loss": total / len(self.validation),
            "cer": cer(references, transcripts),
            "wer": wer(references, transcripts),
        }

    def rank(self, figures: Figures) -> tuple[Any, ...]:
        return -figures[self.config.train.select], -figures["loss"]

    def advice(self, figures: Figures) -> str:
        if figures["cer"] < UNTRAINED_CER:
            return ""
        return (
            f"it recognizes next to nothing yet (cer {figures['cer']:.2f}). Look at the peaks in "
            "TensorBoard; try a smaller asr.subsampling, a longer train.warmup_steps, or check "
            "that the texts match the recordings"
        )


def _vocabulary(config: Config, clips: Sequence[Clip]) -> Vocabulary:
    if config.asr.tokens == "characters":
        return Characters()
    try:
        return Subwords.train((clip.normalized for clip in clips), config.asr.bpe_size)
    except ValueError as error:
        raise CorpusError(str(error)) from None


def _long_enough(
    config: Config, clips: Sequence[Clip], vocabulary: Vocabulary
) -> tuple[list[Clip], str]:
    """Return the clips with the encoder frames that CTC needs for their text, and a line that
    names the others. The fastest augmentation counts.
    """
    audio, fastest = config.audio, max([1.0, *config.augment.speed])
    kept, short = [], []
    for clip in clips:
        tokens = vocabulary.encode(clip.normalized, True)
        # A joined clip needs a frame for the space before the next one.
        needed = frames_needed(tokens) + (config.data.join[1] > 1)
        samples = int(clip.duration * audio.sample_rate / fastest)
        frames = torch.tensor([1 + samples // audio.hop_length])
        got = int(subsampled(frames, config.asr.subsampling))
        if tokens and got >= needed:
            kept.append(clip)
        else:
            short.append(f"{clip.id} ({got} frames, {needed} needed)")
    if not short:
        return kept, ""
    named = ", ".join(short[:NAMED]) + (", ..." if len(short) > NAMED else "")
    one = "1 clip is too short for its"
    subject = one if len(short) == 1 else f"{len(short)} clips are too short for their"
    line = f"{subject} text at asr.subsampling={config.asr.subsampling}: {named}"
    if not kept:
        raise CorpusError(line)
    return kept, line
