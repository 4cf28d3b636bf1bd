"""What a run shows while it learns: scalars, pictures and sound in TensorBoard, samples in the run
folder. What is shown of an evaluation is its task's.

N samples.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tacoskip.audio import write_audio


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

    def speech(self, name: str, wave: NDArray[np.float32], sample_rate: int, step: int) -> None:
        """Let a wave (N,) be heard, and keep it in the run's samples."""
        peak = max(float(np.abs(wave).max()), 1e-6)
        sound = torch.from_numpy(wave / max(peak, 1.0))
        self.writer.add_audio(f"speech/{name}", sound[None], step, sample_rate)
        samples = self.run / "samples"
        samples.mkdir(exist_ok=True)
        write_audio(samples / f"{name}-{step:08d}.wav", sound.numpy(), sample_rate)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Show a text."""
        self.writer.add_text(tag, markdown, step)

    def picture(self, tag: str, images: list[Tensor], step: int) -> None:
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
