"""What a run shows while it learns: scalars, pictures and sound in TensorBoard, samples and the
probes' last values (`probes.json`) in the run folder. What is shown of an evaluation is its task's.

N samples.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tacoskip.audio import write_audio
from tacoskip.files import write_whole
from tacoskip.probes import pictures as probe_pictures
from tacoskip.probes.activations import ActivationProbe
from tacoskip.probes.attention import AttentionProbe
from tacoskip.probes.gates import GateProbe, learned_weights
from tacoskip.probes.lesions import lesions
from tacoskip.probes.paths import path_lengths
from tacoskip.probes.reuse import reuse
from tacoskip.probes.stacks import ByUnit

# Of the files that a run writes itself.
SUFFIX = ".run"


class Board:
    """Writer of one run's events. Tags are `train/...`, `validation/...`, `gradient_norm/...`, and
    those of the probes: MEASURE/PLACE/unit_03.
    """

    def __init__(
        self, run: Path, resumed: int | None = None, vouched: Mapping[str, int] | None = None
    ) -> None:
        """resumed: the step that a run goes on from. vouched: what `save` gave then; events that
        came later are cut off, they come again.
        """
        self.run = run
        if vouched is not None:
            for path in run.glob(f"events.out.tfevents.*{SUFFIX}"):
                with path.open("rb+") as file:
                    file.truncate(min(vouched.get(path.name, 0), path.stat().st_size))
        # Files are read in the order of their names, which begin with the second they are from.
        while any(run.glob(f"events.out.tfevents.{int(time.time()):010d}.*{SUFFIX}")):
            time.sleep(0.02)
        # A TensorBoard that is open has read what was cut off, and is told to forget it; so is
        # every reader of what a run left that died before its first checkpoint.
        purge = 0 if resumed is None else resumed + 1
        self.writer = SummaryWriter(str(run), purge_step=purge, filename_suffix=SUFFIX)
        self.probed: dict[str, Any] = {"places": {}}
        if resumed is not None and (run / "probes.json").is_file():
            self.probed = json.loads((run / "probes.json").read_text(encoding="utf-8"))

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

    def probes(self, found: Mapping[str, ByUnit], step: int) -> None:
        """Write what a probe found by place and unit, and keep it as the last values."""
        for place, measures in found.items():
            for name, values in measures.items():
                for number, value in enumerate(values):
                    if value is not None:
                        tag = f"{name}/{place}/unit_{number:02d}"
                        self.writer.add_scalar(tag, value, step)
            self.probed["places"].setdefault(place, {}).update(measures)
        self.probed["step"] = step

    def analysis(self, model: nn.Module, losses: Sequence[Callable[[], Tensor]], step: int) -> None:
        """Measure lesions and path lengths of a trained network; losses: of a few batches."""
        model.eval()
        dropped = lesions(model, losses)
        self.probes({place: {"lesion": rise} for place, rise in dropped.increase.items()}, step)
        lengths, reasons = path_lengths(model, losses[0])
        for place, rise in dropped.increase.items():
            mine = self.probed["places"][place]
            self._figure(f"lesions/{place}", probe_pictures.lesion_bars(place, rise), step)
            mine["lesions_left_out"] = dropped.left_out.get(place, "")
            mine["paths_left_out"] = reasons.get(place, "")
            if place in lengths:
                mine["paths"] = vars(lengths[place])
                mine["path_length"] = [lengths[place].mean]
                self.writer.add_scalar(f"path_length/{place}", lengths[place].mean, step)
                paths = lengths[place]
                picture = probe_pictures.path_bars(place, paths.magnitude, paths.share)
                self._figure(f"paths/{place}", picture, step)
        self.probed["loss"] = dropped.loss
        self._save_probed()

    @contextmanager
    def probing(self, model: nn.Module, step: int) -> Iterator[None]:
        """Have the probes look at every pass of `model` inside, and show what they saw."""
        norms, gates, attention = ActivationProbe(model), GateProbe(model), AttentionProbe(model)
        with norms.watching(), gates.watching(), attention.watching():
            yield
        for found in (norms.read(), gates.read(), learned_weights(model), attention.read()):
            self.probes(found, step)
        self._probe_pictures(attention, step)
        self._save_probed()

    def _probe_pictures(self, probe: AttentionProbe, step: int) -> None:
        for place, stack in probe.stacks.items():
            mine = self.probed["places"][place]
            self._figure(f"depth/{place}", probe_pictures.by_depth(place, mine), step)
            tables = reuse(stack)
            if tables:
                mine["reuse"] = tables
                self._figure(f"reuse/{place}", probe_pictures.reuse_map(tables), step)
            if probe.maps[place]:
                maps = probe.maps[place]
                self._figure(f"attention/{place}", probe_pictures.attention_maps(maps), step)

    def _save_probed(self) -> None:
        """Write probes.json; numbers that are not finite become null."""
        write_whole(self.run / "probes.json", json.dumps(_finite(self.probed), indent=1) + "\n")

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
        self._figure(tag, figure, step)

    def _figure(self, tag: str, figure: Figure, step: int) -> None:
        self.writer.add_figure(tag, figure, step)

    def save(self) -> dict[str, int]:
        """Wait until every event is in its file; return the sizes of the files, by name.

        Raises OSError when the disk is full.
        """
        self.writer.flush()
        # The thread that writes tells of an event it could not write a moment after it is asked;
        # with another event behind that one, it has told.
        mark = Event(session_log=SessionLog(status=SessionLog.CHECKPOINT))
        self.writer.file_writer.add_event(mark)  # type: ignore[attr-defined]
        self.writer.flush()
        files = self.run.glob(f"events.out.tfevents.*{SUFFIX}")
        return {path.name: path.stat().st_size for path in files}

    def close(self) -> None:
        """Let go of the file. What could not be written is `save`'s to tell."""
        with suppress(OSError):
            self.writer.file_writer.close()  # type: ignore[attr-defined]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
