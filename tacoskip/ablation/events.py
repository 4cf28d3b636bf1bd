"""What the TensorBoard events of a run say: scalars by tag, and the last alignment.

P points of a curve. TensorBoard's own reader checks every record's sum in Python and takes seconds
a run; an ablation has a hundred runs, so records are read plainly here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = "validation/alignment_teacher_forced"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Events:
    """Scalars: tag -> step -> value, NaN where a run diverged. alignment: a PNG, or empty."""

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)
    alignment: bytes = b""

    def last(self, group: str) -> dict[str, float]:
        """Return the last value of every tag `group/name`, by name."""
        head = f"{group}/"
        return {
            tag.removeprefix(head): points[max(points)]
            for tag, points in self.scalars.items()
            if tag.startswith(head) and points
        }


@dataclass
class Curve:
    """One scalar over the steps of several runs: their mean, least and greatest, each (P,)."""

    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def read_events(run: Path) -> Events:
    """Read all event files of a run folder, oldest first.

    A file that is cut off or damaged counts up to there; no file at all gives no scalars.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    events = Events()
    for path in sorted(run.glob("events.out.tfevents.*")):
        for record in _records(path):
            try:
                event = Event.FromString(record)
            except DecodeError:
                break
            if event.session_log.status == SessionLog.START:  # resumed: what came later is void
                for points in events.scalars.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    events.scalars.setdefault(value.tag, {})[event.step] = value.simple_value
                elif value.tag == ALIGNMENT and value.image.encoded_image_string.startswith(PNG):
                    events.alignment = value.image.encoded_image_string
    return events


def mean_curve(runs: Sequence[Events], tag: str, points: int = 60) -> Curve | None:
    """Return the mean, least and greatest of a scalar over runs, on the steps all of them reached.

    Values that are not finite are left out.
    A run with more than `points` values is averaged in that many stretches: a training loss is
    noisy from step to step. None where no run has the scalar.
    """
    series = []
    for events in runs:
        values_by_step = events.scalars.get(tag, {})
        found = sorted((step, y) for step, y in values_by_step.items() if math.isfinite(y))
        if found:
            stretches = np.array_split(np.array(found), min(points, len(found)))
            series.append(np.array([stretch.mean(axis=0) for stretch in stretches]))
    if not series:
        return None
    first, last = max(one[0, 0] for one in series), min(one[-1, 0] for one in series)
    steps = np.unique(np.concatenate([one[:, 0] for one in series]))
    steps = steps[(steps >= first) & (steps <= last)]
    if not steps.size:
        return None
    steps = steps[np.unique(np.linspace(0, steps.size - 1, points).round().astype(int))]
    values = np.array([np.interp(steps, one[:, 0], one[:, 1]) for one in series])
    return Curve(steps, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file: length (8 bytes), its sum (4), data, its sum (4)."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while left >= 16:
            length = int.from_bytes(file.read(12)[:8], "little")
            left -= length + 16
            if left < 0:
                return
            yield file.read(length + 4)[:-4]
