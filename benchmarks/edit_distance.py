"""Edit distance, for the benchmarks that count what a listener got wrong."""

from collections.abc import Sequence


def edits(said: Sequence[object], heard: Sequence[object]) -> int:
    """Return the least number of insertions, deletions and substitutions between two strings."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
