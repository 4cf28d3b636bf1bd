"""Statistics of prepared clips: which speaking rates cannot be true."""

from typing import Any

import numpy as np

LEAST_CLIPS = 20
FASTEST, SLOWEST = 60.0, 0.4  # characters a second that no speaker reaches


def speaking_rate(row: dict[str, Any]) -> float:
    """Return characters (letters of the spoken text) a second."""
    return sum(c.isalnum() for c in row["normalized"]) / row["seconds"]


def implausible_rates(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return a phrase for each clip whose text and audio can hardly belong together, by its id.

    Bounds on the logarithm of the rate: the median -+ 5 robust deviations (1.4826 MAD), but at
    least a factor of 3, since a word or two has any rate. With fewer than 20 clips only rates that
    no speaker reaches are refused.
    """
    if not rows:
        return {}
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
