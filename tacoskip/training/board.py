"""TensorBoard events of a run, its samples, and the last values of the probes (`probes.json`)."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer import event_file_writer
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tacoskip.audio import write_audio
from tacoskip.files import read_regular, write_whole
from tacoskip.messages import plain_values
from tacoskip.probes import pictures as probe_pictures
from tacoskip.probes.activity import ActivityProbe
from tacoskip.probes.lesions import lesions
from tacoskip.probes.stacks import ByUnit
from tacoskip.probes.weights import learned_weights, reuse

SUFFIX = ".run"  # of the event files that a run writes itself
PROBE_BYTES = 50_000_000

# TensorBoard sorts groups by name and opens the first: this one comes after train and validation.
INSIDE = "within"


@dataclass
class Panel:
    """An image (width, height), drawn with its first row at the bottom, and its labels."""

    image: Tensor
    title: str
    width: str
    height: str


def mel_panel(mel: Tensor, title: str) -> Panel:
    """Return the panel of a mel spectrogram (T, M)."""
    return Panel(mel, title, "mel frame", "mel band")


class Board:
    """Writer of one run's events. Tags are `train/...`, `validation/...`, and
    `within/gradient_norm/PART` and `within/MEASURE/STACK/unit_03` of the probes.
    """

    def __init__(
        self, run: Path, resumed: int | None = None, saved: Mapping[str, int] | None = None
    ) -> None:
        """resumed: the step from which a run continues. saved: what `save` returned then; later
        events are cut off, since they will be written again.
        """
        self.run = run
        if saved is not None:
            for path in self._files():
                with path.open("rb+") as file:
                    file.truncate(min(saved.get(path.name, 0), path.stat().st_size))
        # Readers must forget what was cut off, and what a run wrote before its first checkpoint.
        purge = 0 if resumed is None else resumed + 1
        # Files are read in the order of their names, which begin with a second: the clock's, or
        # one later than the newest file's if the clock was set back.
        newest = max((int(path.name.split(".")[3]) for path in self._files()), default=0)
        clock = SimpleNamespace(time=lambda: max(time.time(), newest + 1))
        with mock.patch.object(event_file_writer, "time", clock, create=True):
            self.writer = SummaryWriter(str(run), purge_step=purge, filename_suffix=SUFFIX)
        self.probed: dict[str, Any] = {"stacks": {}}
        if resumed is not None:
            with suppress(OSError, ValueError, TypeError, RecursionError):  # absent, or damaged
                self.probed |= json.loads(read_regular(run / "probes.json", PROBE_BYTES))

    def _files(self) -> list[Path]:
        """The run's own event files; a link or a pipe is none."""
        files = self.run.glob(f"events.out.tfevents.*{SUFFIX}")
        return [path for path in files if path.is_file() and not path.is_symlink()]

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def gradient_norms(self, model: nn.Module, step: int) -> None:
        """Norm of the (clipped) gradient of each part of the network, by its dotted name down to
        three levels.
        """
        parts: dict[str, list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parts.setdefault(".".join(name.split(".")[:-1][:3]), []).append(parameter.grad)
        norms = torch.stack([nn.utils.get_total_norm(each) for each in parts.values()]).tolist()
        self.scalars(f"{INSIDE}/gradient_norm", dict(zip(parts, norms, strict=True)), step)

    def probes(self, measured: Mapping[str, ByUnit], step: int) -> None:
        """Write a probe's measures by stack and unit, and keep them as the last values."""
        for stack, measures in measured.items():
            for name, values in measures.items():
                for number, value in enumerate(values):
                    if value is not None:
                        tag = f"{INSIDE}/{name}/{stack}/unit_{number:02d}"
                        self.writer.add_scalar(tag, value, step)
            self.probed["stacks"].setdefault(stack, {}).update(measures)
        self.probed["step"] = step

    def analysis(self, model: nn.Module, losses: Sequence[Callable[[], Tensor]], step: int) -> None:
        """Measure lesions of a trained network; losses: of a few batches."""
        increase = lesions(model, losses)
        self.probes({place: {"lesion": rise} for place, rise in increase.items()}, step)
        for place, rise in increase.items():
            bars = probe_pictures.lesion_bars(place, rise)
            self.writer.add_figure(f"lesions/{place}", bars, step)
        self._save_probed()

    @contextmanager
    def probing(self, model: nn.Module, step: int) -> Iterator[None]:
        """Have the probes watch every pass of `model` in the block, and write what they measure."""
        probe = ActivityProbe(model)
        with probe.watching():
            yield
        for measured in (probe.read(), learned_weights(model)):
            self.probes(measured, step)
        for place, stack in probe.stacks.items():
            kept = self.probed["stacks"][place]
            self.writer.add_figure(f"depth/{place}", probe_pictures.by_depth(place, kept), step)
            if tables := reuse(stack):
                kept["reuse"] = tables
                self.writer.add_figure(f"reuse/{place}", probe_pictures.reuse_map(tables), step)
            if maps := probe.maps[place]:
                picture = probe_pictures.attention_maps(maps)
                self.writer.add_figure(f"attention/{place}", picture, step)
        self._save_probed()

    def _save_probed(self) -> None:
        """Write probes.json; numbers that are not finite become null."""
        write_whole(
            self.run / "probes.json", json.dumps(plain_values(self.probed), indent=1) + "\n"
        )

    def speech(self, name: str, wave: NDArray[np.float32], sample_rate: int, step: int) -> None:
        """Write a wave (N,), also as a file in the run's samples."""
        sound = torch.from_numpy(wave / max(float(np.abs(wave).max()), 1.0))
        self.writer.add_audio(f"speech/{name}", sound[None], step, sample_rate)
        samples = self.run / "samples"
        samples.mkdir(exist_ok=True)
        write_audio(samples / f"{name}-{step:08d}.wav", sound.numpy(), sample_rate)

    def picture(self, tag: str, panels: Sequence[Panel], text: str, step: int) -> None:
        """Draw images above one another, under the text that they belong to."""
        figure = Figure(figsize=(7, 2.9 * len(panels) + 0.3), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(text if len(text) <= 90 else f"{text[:87]}...", fontsize="medium")
        rows = figure.subplots(len(panels), squeeze=False)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            pixels = panel.image.float().cpu().T
            axes.imshow(pixels, origin="lower", aspect="auto", interpolation="nearest")
            axes.set_title(panel.title, fontsize="medium")
            axes.set(xlabel=panel.width, ylabel=panel.height)
        self.writer.add_figure(tag, figure, step)

    def save(self) -> dict[str, int]:
        """Wait until every event is in its file; return the sizes of the files, by name.

        Raises OSError when the disk is full.
        """
        self.writer.flush()
        # The writing thread reports a failed event only after the next one has been queued.
        mark = Event(session_log=SessionLog(status=SessionLog.CHECKPOINT))
        if file_writer := getattr(self.writer, "file_writer", None):  # not documented
            file_writer.add_event(mark)
        self.writer.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def close(self) -> None:
        """Close the file. `save` reports what could not be written."""
        with suppress(OSError):
            self.writer.close()
