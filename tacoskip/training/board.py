"""What a run shows while it learns: scalars, pictures and sound in TensorBoard, samples in the run
folder.

B batch, L decoder steps, S symbols, T mel frames, M mels.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tacoskip.audio import write_audio
from tacoskip.config import Config
from tacoskip.data import Batch
from tacoskip.inference import Speech, Voice
from tacoskip.losses import masked_l1
from tacoskip.metrics import alignment_score, mcd_db

# Validation utterances that are synthesised at each evaluation.
SPOKEN = 8


class Board:
    """Writer of one run's events. Tags are `train/...`, `validation/...`, `gradient_norm/...`,
    `openness/...`.
    """

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        self.run = run
        self.writer = SummaryWriter(str(run), purge_step=purge_step)

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def gradient_norms(self, model: nn.Module, step: int) -> None:
        """Norm of the (clipped) gradient of each part of the network, by its dotted name down to
        three levels.
        """
        squares: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                part = ".".join(name.split(".")[:-1][:3])
                square = parameter.grad.detach().square().sum()
                squares[part] = squares[part] + square if part in squares else square
        norms = torch.stack(list(squares.values())).sqrt().tolist() if squares else []
        self.scalars("gradient_norm", dict(zip(squares, norms, strict=True)), step)

    def evaluation(
        self, voice: Voice, batches: list[Batch], config: Config, step: int
    ) -> dict[str, float]:
        """Judge a voice on validation batches: teacher-forced loss, then speech that it makes by
        itself.

        Returns loss, alignment, mcd_db and stop_failures (a share), the last three of free-running
        synthesis.
        """
        figures = {"loss": self._teacher_forced(voice, batches, step)}
        figures |= self._spoken(voice, batches, step)
        for number, sentence in enumerate(config.train.sentences):
            self._speech(f"sentence_{number}", voice.synthesize(sentence), step)
        self.scalars("validation", figures, step)
        self.writer.flush()
        return figures

    @torch.no_grad()
    def _teacher_forced(self, voice: Voice, batches: list[Batch], step: int) -> float:
        model, total, openness = voice.model.eval(), 0.0, defaultdict[str, list[float]](list)
        hooks = [
            module.register_forward_hook(_record_openness(openness[name]))
            for name, module in model.named_modules()
            if hasattr(module, "openness")
        ]
        for batch in batches:
            batch = batch.to(voice.device)
            mel, linear = model.standardize(batch.mel, batch.linear)
            output = model(
                batch.symbols, batch.symbol_lengths, mel, batch.mel_lengths, batch.speakers
            )
            loss = masked_l1(output.mel, mel, batch.mel_lengths)
            total += float(loss + masked_l1(output.linear, linear, batch.mel_lengths))
        for hook in hooks:
            hook.remove()
        self.scalars(
            "openness", {name: float(np.mean(seen)) for name, seen in openness.items()}, step
        )
        steps = -(-int(output.mel_lengths[0]) // model.reduction)
        symbols = int(batch.symbol_lengths[0])
        self._picture(
            "validation/alignment_teacher_forced", [output.alignments[0, :steps, :symbols]], step
        )
        return total / len(batches)

    def _spoken(self, voice: Voice, batches: list[Batch], step: int) -> dict[str, float]:
        scores, distances, failures = [], [], []
        first = batches[0]
        for row in range(min(SPOKEN, len(first.texts))):
            speech = voice.synthesize(first.texts[row], voice.speakers[int(first.speakers[row])])
            assert isinstance(speech, Speech)
            truth = first.mel[row, : int(first.mel_lengths[row])].cpu()
            scores.append(alignment_score(speech.alignment).score)
            distances.append(mcd_db(truth, speech.mel))
            failures.append(not speech.stopped)
            if row == 0:
                self._picture(
                    "validation/mel_target_and_spoken", [truth, torch.from_numpy(speech.mel)], step
                )
                self._speech("validation", speech, step)
        return {
            "alignment": float(np.mean(scores)),
            "mcd_db": float(np.mean(distances)),
            "stop_failures": float(np.mean(failures)),
        }

    def _speech(self, name: str, speech: "Speech | list[Speech]", step: int) -> None:
        assert isinstance(speech, Speech)
        peak = max(float(np.abs(speech.wave).max()), 1e-6)
        wave = torch.from_numpy(speech.wave / max(peak, 1.0))
        self.writer.add_audio(f"speech/{name}", wave[None], step, speech.sample_rate)
        self._picture(f"speech/{name}_alignment", [torch.from_numpy(speech.alignment)], step)
        samples = self.run / "samples"
        samples.mkdir(exist_ok=True)
        write_audio(samples / f"{name}-{step:08d}.wav", wave.numpy(), speech.sample_rate)

    def _picture(self, tag: str, images: list[Tensor], step: int) -> None:
        """Show (time, height) images above one another, time to the right."""
        figure = Figure(figsize=(7, 2.8 * len(images)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, image in zip(
            figure.subplots(len(images), squeeze=False)[:, 0], images, strict=True
        ):
            axes.imshow(
                image.float().cpu().T, origin="lower", aspect="auto", interpolation="nearest"
            )
        self.writer.add_figure(tag, figure, step)

    def close(self) -> None:
        self.writer.close()


def _record_openness(seen: list[float]) -> Callable[..., None]:
    def hook(skip: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, mask = inputs
        seen.append(float(skip.openness(x, mask)))  # type: ignore[operator]

    return hook
