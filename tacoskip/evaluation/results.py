"""What both evaluations share: a run's corpus and clips, intervals, metrics.json."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tacoskip.config import Config
from tacoskip.data.clip import Clip, JoinedClips, joined_clips
from tacoskip.data.prepared import PreparedCorpus, is_prepared, prepared_dir
from tacoskip.data.storage import is_remote
from tacoskip.files import one_at_a_time, read_regular, write_whole
from tacoskip.messages import nearest, plain_values

SPLITS = ("train", "validation", "test")
RESAMPLES = 2000
METRICS = "metrics.json"
JSON_BYTES = 100_000_000

Progress = Callable[[float, str], None]
Figure = dict[str, float | int]
Table = tuple[list[str], list[list[str]]]  # columns, rows


def open_corpus(config: Config, checkpoint: Path) -> PreparedCorpus:
    """Open the corpus of a run from any working folder.

    Relative paths of its settings count from the working folder, from the one that the run was
    trained in (environment.json), or from a folder above the run. Raises CorpusError when the
    corpus is prepared in none of them.
    """
    run = checkpoint.absolute().parent.parent
    bases = [Path(), *run.parents]
    try:
        environment = json.loads(read_regular(run / "environment.json", JSON_BYTES))
        bases.insert(1, Path(environment["folder"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a run of an earlier version, or a checkpoint outside of its run
    for base in bases:
        root, dir = config.data.root, config.data.dir
        if root and not is_remote(root):
            root = str((base / root).absolute())
        if not is_remote(dir):
            data = replace(config.data, root=root)
            dir = str((base / prepared_dir(replace(config, data=data))).absolute())
        if is_prepared(root) or is_prepared(dir):
            return PreparedCorpus.of(replace(config, data=replace(config.data, root=root, dir=dir)))
    return PreparedCorpus.of(config)


def choose_clips(
    corpus: PreparedCorpus,
    split: str,
    limit: int = 0,
    join: tuple[int, int] = (1, 1),
    max_seconds: float = math.inf,
) -> list[Clip | JoinedClips]:
    """Return the clips of a split by id, the same each time; at most `limit`, evenly spread.

    limit: 0 returns all. join: least and most clips of one speaker in an utterance. Raises
    ValueError for an unknown split or one without clips.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}'{nearest(split, SPLITS)} ({', '.join(SPLITS)})")
    clips = sorted(getattr(corpus, split), key=lambda clip: clip.id)
    if not clips:
        raise ValueError(f"expected clips in the {split} split of {corpus.dir}, found none")
    found = joined_clips(clips, *join, max_seconds, 0, 0)
    if 0 < limit < len(found):
        found = [found[k * len(found) // limit] for k in range(limit)]
    return found


def bootstrap(totals: Sequence[float], weights: Sequence[float], seed: int = 0) -> Figure:
    """Return the mean, sum of totals over sum of weights, with low and high: its 95 % percentile
    bootstrap over the items.
    """
    table = np.array([totals, weights], dtype=np.float64).T
    rng = np.random.default_rng(seed)
    drawn = table[rng.integers(len(table), size=(RESAMPLES, len(table)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [2.5, 97.5])
    mean = table[:, 0].sum() / max(float(table[:, 1].sum()), 1)
    return {"mean": float(mean), "low": float(low), "high": float(high), "n": len(table)}


def summarize(values: Sequence[float], seed: int = 0) -> Figure:
    """Return the `bootstrap` of values' mean; NaN is left out and not counted in n."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    return bootstrap(finite, [1.0] * len(finite), seed)


def table_row(name: str, figure: Figure, style: str) -> list[str]:
    """Return a figure as text: name, mean, 95 % interval, items."""
    mean, low, high = (format(figure[key], style) for key in ("mean", "low", "high"))
    return [name, mean, f"{low} to {high}", str(figure["n"])]


def metrics_path(checkpoint: Path) -> Path:
    """Return RUN/metrics.json; for a checkpoint outside a run folder, CHECKPOINT.metrics.json."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent / METRICS
    return checkpoint.with_name(f"{checkpoint.stem}.{METRICS}")


def write_metrics(
    checkpoint: Path, name: str, figures: dict[str, Any], progress: Progress | None = None
) -> None:
    """Add `{name: figures}` to the metrics file, whole or not at all."""
    path = metrics_path(checkpoint)
    with one_at_a_time(path.parent):
        try:
            known = json.loads(read_regular(path, JSON_BYTES))
        except (OSError, ValueError):
            known = {}
        known = (known if isinstance(known, dict) else {}) | {name: plain_values(figures)}
        write_whole(path, json.dumps(known, indent=2, ensure_ascii=False) + "\n")
    if progress:
        progress(1.0, f"wrote {path}")
