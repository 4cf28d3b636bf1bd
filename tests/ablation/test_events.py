"""Event files of the real writer are read as TensorBoard reads them, damaged ones as well."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tacoskip.ablation.events import ALIGNMENT, Events, mean_curve, read_events


def write(run: Path, values: dict[int, float], purge_step: int | None = None) -> None:
    with SummaryWriter(str(run), purge_step=purge_step) as writer:
        for step, value in values.items():
            writer.add_scalar("train/loss", value, step)


def test_scalars_equal_tensorboards(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(50):
            writer.add_scalar("train/loss", 1 / (step + 1), step)
            writer.add_scalar("validation/mcd_db", 5.0 - step, step)
        writer.add_image(ALIGNMENT, np.zeros((3, 4, 4), dtype=np.uint8), 49)
    found, reference = read_events(tmp_path), EventAccumulator(str(tmp_path)).Reload()
    assert set(found.scalars) == set(reference.Tags()["scalars"])
    for tag, points in found.scalars.items():
        assert list(points.items()) == [(one.step, one.value) for one in reference.Scalars(tag)]
    assert found.alignment == reference.Images(ALIGNMENT)[-1].encoded_image_string
    assert found.last("validation") == {"mcd_db": -44.0}


def test_repeated_steps_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    write(tmp_path, {1: 1.0, 2: 2.0, 3: 3.0})
    newest = next(tmp_path.iterdir())
    newest.rename(tmp_path / "events.out.tfevents.0000000000.first")
    write(tmp_path, {2: 20.0}, purge_step=2)
    assert read_events(tmp_path).scalars["train/loss"] == {1: 1.0, 2: 20.0}


def test_truncated_file_counts_up_to_the_cut(tmp_path: Path) -> None:
    write(tmp_path, {step: float(step) for step in range(10)})
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-10])
    assert max(read_events(tmp_path).scalars["train/loss"]) == 8


@pytest.mark.parametrize("content", [b"", b"no events at all, but a longer text", b"\xff" * 64])
def test_foreign_file_has_no_scalars(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(content)
    assert read_events(tmp_path).scalars == {}


def test_diverged_run_ends_in_nan_but_has_a_curve(tmp_path: Path) -> None:
    write(tmp_path, {1: 1.0, 2: 3.0, 3: float("nan")})
    found = read_events(tmp_path)
    assert np.isnan(found.last("train")["loss"])
    curve = mean_curve([found], "train/loss")
    assert curve is not None
    assert curve.steps.tolist() == [1, 2]


def test_mean_curve_covers_the_steps_all_runs_reached() -> None:
    runs = [Events({"loss": {0: 4.0, 10: 2.0, 20: 0.0}}), Events({"loss": {0: 2.0, 10: 4.0}})]
    curve = mean_curve([*runs, Events()], "loss")
    assert curve is not None
    assert curve.steps.tolist() == [0, 10]
    assert curve.mean.tolist() == [3, 3]
    assert (curve.low.tolist(), curve.high.tolist()) == ([2, 2], [4, 4])
    assert mean_curve(runs, "nothing") is None


def test_long_curve_is_averaged_not_sampled() -> None:
    noisy = {step: float(step % 2) for step in range(1200)}
    curve = mean_curve([Events({"loss": noisy})], "loss")
    assert curve is not None
    assert len(curve.steps) == 60
    assert curve.mean == pytest.approx(np.full(60, 0.5))
