"""The TensorBoard events of a run: scalars by tag, and the last alignment.

TensorBoard's own reader verifies the checksum of every record in Python, which takes seconds per
run. An ablation has a hundred runs, so records are read directly.
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
    """scalars: tag -> step -> value, NaN where a run diverged. alignment: a PNG, or empty."""

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
    """A scalar over the steps of several runs: mean, minimum and maximum, each (P,)."""

    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def read_events(run: Path) -> Events:
    """Read all event files of a run folder, oldest first.

    A file that is truncated or damaged counts up to there.
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
            if event.session_log.status == SessionLog.START:  # resumed: later values are void
                for tag, points in events.scalars.items():
                    kept = {step: y for step, y in points.items() if step < event.step}
                    events.scalars[tag] = kept
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    events.scalars.setdefault(value.tag, {})[event.step] = value.simple_value
                elif value.tag == ALIGNMENT and value.image.encoded_image_string.startswith(PNG):
                    events.alignment = value.image.encoded_image_string
    return events


def mean_curve(runs: Sequence[Events], tag: str, points: int = 60) -> Curve | None:
    """Return the mean, minimum and maximum of a scalar over runs, at the steps all of them reached.

    A run with more than `points` values is averaged in that many parts, since a training loss is
    noisy. Values that are not finite are left out. None where no run has the scalar.
    """
    series = []
    for events in runs:
        found = [xy for xy in sorted(events.scalars.get(tag, {}).items()) if math.isfinite(xy[1])]
        if found:
            parts = np.array_split(np.array(found), min(points, len(found)))
            series.append(np.array([part.mean(axis=0) for part in parts]))
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
    """Yield the records of a TFRecord file: length (8 bytes), checksum (4), data, checksum (4)."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while left >= 16:
            length = int.from_bytes(file.read(12)[:8], "little")
            left -= length + 16
            if left < 0:
                return
            yield file.read(length + 4)[:-4]
