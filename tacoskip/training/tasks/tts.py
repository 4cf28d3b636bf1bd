"""Training a voice: Tacotron's losses, and free-running synthesis of validation texts.

B batch, L decoder steps, S symbols, T mel frames, M mels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd
from tacoskip.blocks import sparsity
from tacoskip.config import Config
from tacoskip.data.batches import TrainBatches, validation_batches
from tacoskip.data.durations import symbol_durations
from tacoskip.data.loading import Batch, feature_statistics
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import NONE, character_errors
from tacoskip.evaluation.judges import load_judge
from tacoskip.evaluation.metrics import mcd_db
from tacoskip.models.attention import ONE_SYMBOL_A_STEP
from tacoskip.models.durations import DURATIONS
from tacoskip.models.tacotron import Tacotron, TacotronOutput
from tacoskip.run_folder import RunError, build_tacotron
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text import Tokenizer
from tacoskip.text.letters import plain_words
from tacoskip.training import schedule
from tacoskip.training.board import Board, Panel
from tacoskip.training.losses import (
    STOP_WEIGHT,
    duration_loss,
    guided_attention_loss,
    masked_l1,
    stop_loss,
)

# Validation utterances that are synthesized at each evaluation.
SYNTHESIZED = 8
UNALIGNED_STEPS = 2000
# An attention that moves on by at most one symbol a step needs some steps to spare.
STEPS_PER_SYMBOL = 1.25
# An intelligible voice: the least alignment score, the largest share of sentences without end.
UNALIGNED_SCORE = 0.3
STOP_FAILURES = 0.5


def teacher_forced_loss(model: Tacotron, batch: Batch) -> tuple[Tensor, TacotronOutput]:
    """Mel and linear loss of a batch in standardised features, a scalar, and the output."""
    batch = batch.to(model.mel_mean.device)
    mel, linear = model.standardize(batch.mel, batch.linear)
    output = _run(model, replace(batch, mel=mel, linear=linear))
    loss = masked_l1(output.mel, mel, batch.mel_lengths)
    return loss + masked_l1(output.linear, linear, batch.mel_lengths), output


def _run(model: nn.Module, batch: Batch) -> TacotronOutput:
    inputs = batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.speakers
    return model(*inputs) if batch.durations is None else model(*inputs, batch.durations)


class VoiceTask:
    """A Tacotron in training; see `Task`."""

    vocabulary_model = ""

    def __init__(self, config: Config, corpus: PreparedCorpus, log: Callable[..., None]) -> None:
        self.config, self.log = config, log
        self.speakers = corpus.speakers
        self.front_end = FrontEnd(config.audio)
        tokenizer = Tokenizer(config.text)
        self.batches = TrainBatches(
            corpus.train, config.data, self.front_end, tokenizer, corpus.speakers, seed=config.seed
        )
        self.validation = validation_batches(
            corpus.validation, config.data, self.front_end, tokenizer, corpus.speakers
        )
        self.n_symbols = len(tokenizer)
        self.text_kind = f"{self.n_symbols} symbols ({config.text.symbols})"
        self.tokenizer, self.training_clips = tokenizer, corpus.train
        if config.tts.attention == DURATIONS:
            self._align(corpus)
        with torch.random.fork_rng(devices=[]):  # the judge must not change the voice
            judge = config.train.judge
            try:
                self.judge = load_judge(judge, config.train.device) if judge else None
            except ValueError as error:
                raise RunError(f"train.judge: {error}") from error
        self.model: Tacotron

    def _align(self, corpus: PreparedCorpus) -> None:
        """Give the batches the durations of their symbols."""
        if self.config.data.join != [1, 1]:
            raise ValueError(
                f"expected data.join=[1, 1] with tts.attention={DURATIONS}, got "
                f"{self.config.data.join}"
            )
        self.log("aligning texts and recordings")
        loader = self.batches.loader
        clips = [*corpus.train, *corpus.validation]
        loader.durations = known = symbol_durations(clips, loader, self.tokenizer)
        self.validation = [
            replace(b, durations=pad_sequence([known[id] for id in b.ids], batch_first=True))
            for b in self.validation
        ]

    @cached_property
    def seen_symbols(self) -> list[int]:
        """The symbols that occur in the training texts."""
        texts = sorted({clip.normalized for clip in self.training_clips})
        return sorted({i for ids in self.tokenizer.encode_many(texts, True) for i in ids})

    def build(self, config: Config) -> Tacotron:
        return build_tacotron(config, self.n_symbols, len(self.speakers))

    def start(self, corpus: PreparedCorpus, frames_per_symbol: float) -> None:
        self.model.set_statistics(*feature_statistics(corpus.train, self.front_end))
        self._check_pace(frames_per_symbol)

    def begin_step(self, step: int) -> None:
        self.model.reduction = schedule.reduction(self.config.tts, step)

    def standardize(self, batch: Batch) -> Batch:
        mel, linear = self.model.standardize(batch.mel, batch.linear)
        return replace(batch, mel=mel, linear=linear)

    def forward(self, model: nn.Module, batch: Batch) -> TacotronOutput:
        return _run(model, batch)

    def losses(self, output: TacotronOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        weights, reduction = self.config.loss, self.model.reduction
        losses = {
            "mel_loss": masked_l1(output.mel, batch.mel, batch.mel_lengths),
            "linear_loss": weights.linear
            * masked_l1(output.linear, batch.linear, batch.mel_lengths),
        }
        if output.log_durations is not None and batch.durations is not None:
            losses["duration_loss"] = duration_loss(
                output.log_durations, batch.durations, batch.symbol_lengths
            )
        else:
            lengths = batch.mel_lengths
            losses["stop_loss"] = weights.stop * stop_loss(output.stop_logits, lengths, reduction)
            if weights.guided:
                losses["guided_loss"] = weights.guided * guided_attention_loss(
                    output.alignments, lengths, batch.symbol_lengths, reduction
                )
        price = sparsity(self.model)
        if price is not None and weights.sparsity:
            losses["sparsity_loss"] = weights.sparsity * price
        return losses

    def counts(self, batch: Batch) -> dict[str, float]:
        frames, rows, reduction = batch.mel_lengths, len(batch), self.model.reduction
        steps = float(((frames + reduction - 1) // reduction).sum())
        return {
            "mel_loss": float(frames.sum()),
            "linear_loss": float(frames.sum()),
            "stop_loss": steps + (STOP_WEIGHT - 1) * rows,
            "guided_loss": steps,
            "duration_loss": float(batch.symbol_lengths.sum()),
            "sparsity_loss": rows,
        }

    def scalars(self, output: TacotronOutput) -> dict[str, float]:
        steps = -(-int(output.mel_lengths[0]) // self.model.reduction)
        alignment = output.alignments[0, :steps].detach().float().cpu()
        return {
            "alignment": alignment_score(alignment).score,
            "frames_per_step": float(self.model.reduction),
        }

    def validation_loss(self, model: Tacotron, batch: Batch) -> tuple[Tensor, TacotronOutput]:
        return teacher_forced_loss(model, batch)

    def evaluate(
        self, model: Tacotron, board: Board, frames_per_symbol: float, step: int
    ) -> dict[str, float]:
        """Return the teacher-forced loss, and alignment, mcd_db and stop_failures (a share) of
        free-running synthesis.
        """
        voice = Voice(model, self.config, self.speakers, frames_per_symbol)
        figures = {"loss": self._teacher_forced(board, model, step)}
        figures |= self._synthesized(board, voice, step)
        for number, sentence in enumerate(self.config.train.sentences):
            _write_speech(board, f"sentence_{number}", voice.synthesize(sentence), step)
        return figures

    def rank(self, figures: dict[str, float]) -> tuple[Any, ...]:
        """A network that aligns and ends its sentences ranks above any that does not: distances
        alone prefer one that hums the average to one that begins to articulate.
        """
        select = self.config.train.select
        intelligible = (
            figures["alignment"] >= UNALIGNED_SCORE and figures["stop_failures"] <= STOP_FAILURES
        )
        return intelligible, figures[select] if select == "alignment" else -figures[select]

    def advice(self, figures: dict[str, float], step: int) -> str:
        if step < UNALIGNED_STEPS or figures["alignment"] >= UNALIGNED_SCORE:
            return ""
        return (
            f"attention does not align ({figures['alignment']:.2f}). "
            "Look at the alignments in TensorBoard; try a larger tts.frames_per_step or "
            "loss.guided, or check that the texts match the recordings"
        )

    def _check_pace(self, frames_per_symbol: float) -> None:
        """Warn when speech is faster than an attention that moves one symbol a step."""
        name = self.config.tts.attention
        reduction = schedule.reduction(self.config.tts, 0)
        pace = frames_per_symbol / reduction
        if name in ONE_SYMBOL_A_STEP and pace < STEPS_PER_SYMBOL:
            self.log(
                f"{frames_per_symbol:.1f} frames a symbol are {pace:.1f} decoder steps: "
                f"'{name}' moves on by one symbol a step and may not keep up; lower "
                f"tts.frames_per_step (now {reduction})",
                warning=True,
            )

    @torch.no_grad()
    def _teacher_forced(self, board: Board, model: Tacotron, step: int) -> float:
        total = 0.0
        with board.probing(model, step):
            for batch in self.validation:
                loss, output = self.validation_loss(model, batch)
                total += float(loss)
        steps = -(-int(output.mel_lengths[0]) // model.reduction)
        symbols = int(batch.symbol_lengths[0])
        board.picture(
            "validation/alignment_teacher_forced",
            [_alignment_panel(output.alignments[0, :steps, :symbols], "teacher forcing")],
            batch.texts[0],
            step,
        )
        return total / len(self.validation)

    def _synthesized(self, board: Board, voice: Voice, step: int) -> dict[str, float]:
        scores, distances, failures = [], [], []
        errors = NONE
        first = self.validation[0]
        for row in range(min(SYNTHESIZED, len(first.texts))):
            speech = voice.synthesize(first.texts[row], voice.speakers[int(first.speakers[row])])
            assert isinstance(speech, Speech)
            truth = first.mel[row, : int(first.mel_lengths[row])].cpu()
            scores.append(alignment_score(speech.alignment).score)
            distances.append(mcd_db(truth, speech.mel))
            failures.append(not speech.stopped)
            if self.judge:
                hypothesis = self.judge(speech.wave, speech.sample_rate)
                errors += character_errors(plain_words(first.texts[row], True), hypothesis)
            if row == 0:
                panels = [
                    Panel(truth, "recording, log mel", "mel frame", "mel band"),
                    Panel(
                        torch.from_numpy(speech.mel), "synthesis, log mel", "mel frame", "mel band"
                    ),
                ]
                board.picture(
                    "validation/mel_target_and_synthesized", panels, first.texts[row], step
                )
                _write_speech(board, "validation", speech, step)
        return {
            "alignment": float(np.mean(scores)),
            "mcd_db": float(np.mean(distances)),
            "stop_failures": float(np.mean(failures)),
            **({"cer_by_asr": errors.rate} if self.judge else {}),
        }


def _alignment_panel(alignment: Tensor, of: str) -> Panel:
    return Panel(alignment, f"attention, {of}", "decoder step", "symbol")


def _write_speech(board: Board, name: str, speech: Speech | list[Speech], step: int) -> None:
    assert isinstance(speech, Speech)
    board.speech(name, speech.wave, speech.sample_rate, step)
    panel = _alignment_panel(torch.from_numpy(speech.alignment), "free-running")
    board.picture(f"speech/{name}_alignment", [panel], speech.text, step)
