"""Training a voice: Tacotron's losses, and free-running synthesis of validation texts."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tacoskip.config import Config
from tacoskip.data.durations import symbol_durations
from tacoskip.data.loading import Batch, feature_statistics
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import NONE, character_errors
from tacoskip.evaluation.judges import load_judge
from tacoskip.evaluation.metrics import mcd_db
from tacoskip.masks import subsampled
from tacoskip.models.attention import ONE_SYMBOL_A_STEP
from tacoskip.models.durations import DURATIONS
from tacoskip.models.tacotron import Tacotron, TacotronOutput
from tacoskip.run_folder import RunError
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text import Tokenizer
from tacoskip.text.letters import plain_words
from tacoskip.training import schedule
from tacoskip.training.board import Board, Panel, mel_panel
from tacoskip.training.losses import (
    STOP_WEIGHT,
    duration_loss,
    guided_attention_loss,
    masked_l1,
    stop_loss,
)
from tacoskip.training.tasks.base import Figures, Task

SYNTHESIZED = 8  # validation utterances that are synthesized at each evaluation
# An attention that moves on by at most one symbol a step needs some steps to spare.
STEPS_PER_SYMBOL = 1.25
# An intelligible voice: the least alignment score, the largest share of sentences without end.
UNALIGNED_SCORE, STOP_FAILURES = 0.3, 0.5


class VoiceTask(Task):
    """A Tacotron in training; see `Task`."""

    model: Tacotron

    def __init__(self, config: Config, corpus: PreparedCorpus, log: Callable[..., None]) -> None:
        super().__init__(config, corpus, log, Tokenizer(config.text), corpus.train)
        self.text_kind = f"{self.n_symbols} symbols ({config.text.symbols})"
        if config.tts.attention == DURATIONS:
            self._align(corpus)
        with torch.random.fork_rng(devices=[]):  # the judge must not change the voice
            judge = config.train.judge
            try:
                self.judge = load_judge(judge, config.train.device) if judge else None
            except ValueError as error:
                raise RunError(f"train.judge: {error}") from error

    def _align(self, corpus: PreparedCorpus) -> None:
        """Give the batches the durations of their symbols."""
        self.log("aligning texts and recordings")
        loader = self.batches.loader
        clips = [*corpus.train, *corpus.validation]
        loader.durations = known = symbol_durations(clips, loader, self.encoder)
        self.validation = [
            replace(b, durations=pad_sequence([known[id] for id in b.ids], batch_first=True))
            for b in self.validation
        ]

    @cached_property
    def seen_symbols(self) -> list[int]:
        texts = sorted({clip.normalized for clip in self.batches.clips})
        return sorted({i for ids in self.encoder.encode_many(texts, True) for i in ids})

    def start(self) -> None:
        self.model.set_statistics(*feature_statistics(self.batches.clips, self.front_end))
        name, reduction = self.config.tts.attention, schedule.reduction(self.config.tts, 0)
        pace = self.frames_per_symbol / reduction
        if name in ONE_SYMBOL_A_STEP and pace < STEPS_PER_SYMBOL:
            self.log(
                f"{self.frames_per_symbol:.1f} frames a symbol are {pace:.1f} decoder steps: "
                f"'{name}' moves on by one symbol a step and may not keep up; lower "
                f"tts.frames_per_step (now {reduction})",
                warning=True,
            )

    def begin_step(self, step: int) -> None:
        self.model.reduction = schedule.reduction(self.config.tts, step)

    def standardize(self, batch: Batch) -> Batch:
        mel, linear = self.model.standardize(batch.mel, batch.linear)
        return replace(batch, mel=mel, linear=linear)

    def forward(self, model: nn.Module, batch: Batch) -> TacotronOutput:
        inputs = batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.speakers
        return model(*inputs, batch.durations)

    def losses(self, output: TacotronOutput, batch: Batch) -> dict[str, Tensor]:
        weights, reduction, lengths = self.config.loss, self.model.reduction, batch.mel_lengths
        losses = {
            "mel_loss": masked_l1(output.mel, batch.mel, lengths),
            "linear_loss": weights.linear * masked_l1(output.linear, batch.linear, lengths),
        }
        if output.log_durations is not None and batch.durations is not None:
            losses["duration_loss"] = duration_loss(
                output.log_durations, batch.durations, batch.symbol_lengths
            )
        else:
            losses["stop_loss"] = weights.stop * stop_loss(output.stop_logits, lengths, reduction)
            if weights.guided:
                losses["guided_loss"] = weights.guided * guided_attention_loss(
                    output.alignments, lengths, batch.symbol_lengths, reduction
                )
        return losses | self.sparsity_loss()

    def counts(self, batch: Batch) -> Figures:
        frames, rows = float(batch.mel_lengths.sum()), len(batch)
        steps = float(subsampled(batch.mel_lengths, self.model.reduction).sum())
        return {
            "mel_loss": frames,
            "linear_loss": frames,
            "stop_loss": steps + (STOP_WEIGHT - 1) * rows,
            "guided_loss": steps,
            "duration_loss": float(batch.symbol_lengths.sum()),
            "sparsity_loss": rows,
        }

    def scalars(self, output: TacotronOutput) -> Figures:
        steps = subsampled(output.mel_lengths, self.model.reduction)
        alignment = output.alignments[0, : int(steps[0])].detach().float().cpu()
        return {
            "alignment": alignment_score(alignment).score,
            "frames_per_step": float(self.model.reduction),
        }

    def validation_loss(
        self, model: Tacotron, batch: Batch
    ) -> tuple[Tensor, Tensor, TacotronOutput]:
        """Mel and linear loss in standardised features, by teacher forcing."""
        batch = batch.to(model.mel_mean.device)
        mel, linear = model.standardize(batch.mel, batch.linear)
        output = self.forward(model, replace(batch, mel=mel, linear=linear))
        lengths, losses = batch.mel_lengths, list[Tensor]()
        for rows in (slice(None), *(slice(i, i + 1) for i in range(len(batch)))):
            loss = masked_l1(output.mel[rows], mel[rows], lengths[rows])
            losses.append(loss + masked_l1(output.linear[rows], linear[rows], lengths[rows]))
        return losses[0], torch.stack(losses[1:]), output

    def evaluate(self, model: Tacotron, board: Board, step: int) -> Figures:
        """Return the teacher-forced loss, and alignment, mcd_db and stop_failures (a share) of
        free-running synthesis.
        """
        voice = Voice(model, self.config, self.speakers, self.frames_per_symbol)
        figures = {"loss": self._teacher_forced(board, model, step)}
        figures |= self._synthesized(board, voice, step)
        for number, sentence in enumerate(self.config.train.sentences):
            _write_speech(board, f"sentence_{number}", voice.synthesize(sentence), step)
        return figures

    def rank(self, figures: Figures) -> tuple[Any, ...]:
        """A network that aligns and ends its sentences ranks above any that does not: distances
        alone prefer one that hums the average to one that begins to articulate.
        """
        select = self.config.train.select
        intelligible = (
            figures["alignment"] >= UNALIGNED_SCORE and figures["stop_failures"] <= STOP_FAILURES
        )
        return intelligible, figures[select] if select == "alignment" else -figures[select]

    def advice(self, figures: Figures) -> str:
        if figures["alignment"] >= UNALIGNED_SCORE:
            return ""
        return (
            f"attention does not align ({figures['alignment']:.2f}). "
            "Look at the alignments in TensorBoard; try a larger tts.frames_per_step or "
            "loss.guided, or check that the texts match the recordings"
        )

    @torch.no_grad()
    def _teacher_forced(self, board: Board, model: Tacotron, step: int) -> float:
        total, losses = 0.0, list[float]()
        with board.probing(model, step):
            for batch in self.validation:
                loss, of_clips, output = self.validation_loss(model, batch)
                total += float(loss)
                losses += of_clips.tolist()
        self.clips = {"loss": losses}
        steps = int(subsampled(output.mel_lengths, model.reduction)[0])
        alignment = output.alignments[0, :steps, : int(batch.symbol_lengths[0])]
        panels = [_alignment_panel(alignment, "teacher forcing")]
        board.picture("validation/alignment_teacher_forced", panels, batch.texts[0], step)
        return total / len(self.validation)

    def _synthesized(self, board: Board, voice: Voice, step: int) -> Figures:
        scores, distances, failures, errors = [], [], [], NONE
        first = self.validation[0]
        for row, text in enumerate(first.texts[:SYNTHESIZED]):
            speech = voice.synthesize(text, voice.speakers[int(first.speakers[row])])
            assert isinstance(speech, Speech)
            truth = first.mel[row, : int(first.mel_lengths[row])].cpu()
            scores.append(alignment_score(speech.alignment).score)
            distances.append(mcd_db(truth, speech.mel))
            failures.append(not speech.stopped)
            if self.judge:
                hypothesis = self.judge(speech.wave, speech.sample_rate)
                errors += character_errors(plain_words(text, True), hypothesis)
            if row == 0:
                mels = {"recording": truth, "synthesis": torch.from_numpy(speech.mel)}
                panels = [mel_panel(mel, f"{of}, log mel") for of, mel in mels.items()]
                board.picture("validation/mel_target_and_synthesized", panels, text, step)
                _write_speech(board, "validation", speech, step)
        figures: dict[str, list[Any]] = {
            "alignment": scores,
            "mcd_db": distances,
            "stop_failures": failures,
        }
        means = {name: float(np.mean(values)) for name, values in figures.items()}
        return means | ({"cer_by_asr": errors.rate} if self.judge else {})


def _alignment_panel(alignment: Tensor, of: str) -> Panel:
    return Panel(alignment, f"attention, {of}", "decoder step", "symbol")


def _write_speech(board: Board, name: str, speech: Speech | list[Speech], step: int) -> None:
    assert isinstance(speech, Speech)
    board.speech(name, speech.wave, speech.sample_rate, step)
    panel = _alignment_panel(torch.from_numpy(speech.alignment), "free-running")
    board.picture(f"speech/{name}_alignment", [panel], speech.text, step)
