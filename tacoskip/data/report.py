"""The report of a prepared corpus, and which clips have a speaking rate that cannot be true."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tacoskip.data.prepared import FORMAT
from tacoskip.files import save_figure, write_whole

if TYPE_CHECKING:
    from tacoskip.data.prepare import PrepareReport

LEAST_CLIPS = 20
FASTEST, SLOWEST = 60.0, 0.4  # characters a second that no speaker reaches
FIGURES = {
    "seconds": "seconds after trimming",
    "characters_per_second": "letters a second",
    "level_db": "level as recorded, dB RMS",
}


def read_report(directory: Path) -> dict[str, Any]:
    """Return report.json of an earlier run, or {} when there is none."""
    try:
        report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def write_report(
    report: "PrepareReport",
    kept: list[dict[str, Any]],
    split_of: dict[str, str],
    settings: dict[str, Any],
) -> None:
    """Write report.png and report.json into the prepared folder, each whole or not at all.

    kept: rows of the kept clips. report.json comes last: it marks the folder as prepared.
    """
    rows = [row | {"characters_per_second": speaking_rate(row)} for row in kept]
    content = asdict(report) | {
        "format": FORMAT,
        "dir": str(report.dir),
        "reasons": report.reasons(),
        "settings": settings,
        "split_of": split_of,
    }
    if rows:
        draw(report, {label: [row[name] for row in rows] for name, label in FIGURES.items()})
    write_whole(report.dir / "report.json", json.dumps(content, indent=1))


def draw(report: "PrepareReport", values: dict[str, list[float]]) -> None:
    """Draw histograms of values by their labels into report.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4))  # an automatic layout would draw everything twice
    figure.subplots_adjust(0.06, 0.15, 0.99, 0.9, wspace=0.18)
    for axes, (label, numbers) in zip(figure.subplots(1, 3), values.items(), strict=True):
        axes.hist(numbers, min(60, max(5, len(numbers) // 10)), histtype="stepfilled")
        axes.axvline(float(np.median(numbers)), color="#c44e24", label="median")
        axes.set(xlabel=label, ylabel="clips")
        axes.legend(frameon=False)
    figure.suptitle(
        f"{report.kept} clips kept, {report.seconds / 3600:.2f} h, {len(report.dropped)} left out, "
        f"speakers: {len(report.speakers)}"
    )
    save_figure(figure, report.dir / "report.png")


def speaking_rate(row: dict[str, Any]) -> float:
    """Return characters (letters of the spoken text) a second."""
    return float(sum(c.isalnum() for c in row["normalized"]) / row["seconds"])


def implausible_rates(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return a phrase for each clip whose text and audio can hardly belong together, by its id.

    Bounds on the logarithm of the rate: the median -+ 5 robust deviations (1.4826 MAD), but at
    least a factor of 3, since a word or two has any rate. With fewer than LEAST_CLIPS clips only
    rates that no speaker reaches are refused.
    """
    logs = np.log([max(speaking_rate(row), 1e-6) for row in rows])
    low, high = np.log(SLOWEST), np.log(FASTEST)
    if len(rows) >= LEAST_CLIPS:
        median = float(np.median(logs))
        width = max(5 * 1.4826 * float(np.median(np.abs(logs - median))), np.log(3))
        low, high = max(low, median - width), min(high, median + width)
    phrase = f"characters a second, expected {np.exp(low):.1f} to {np.exp(high):.1f}"
    return {
        row["id"]: f"{np.exp(value):.1f} {phrase}"
        for row, value in zip(rows, logs, strict=True)
        if not low <= value <= high
    }
