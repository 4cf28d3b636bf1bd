"""What do mcd_db and f0_rmse_cents say of real speech? Figures to read a voice's own against.

    python benchmarks/metric_anchors.py --root data/fsdd

Takes 0 and 1 of every digit and speaker of the Free Spoken Digit Dataset, compared with: themselves
after the front end and Griffin-Lim, another take by the same speaker, the same digit by another
speaker, another digit by the same speaker. A measure worth having tells these apart.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from fsdd_judge import copy_synthesis
from fsdd_judge_model import SAMPLE_RATE
from fsdd_judge_train import Clip, read_clips

from tacoskip.audio import AudioSettings, FrontEnd, GriffinLimSettings
from tacoskip.evaluation.metrics import compare_speech
from tacoskip.evaluation.results import summarize


def pairs(clips: list[Clip], copies: list[Clip]) -> dict[str, list[tuple[Clip, Clip]]]:
    """Return what to compare with what: take 0 is always the reference."""
    by = {(clip.speaker, clip.digit, clip.take): clip for clip in clips}
    speakers = sorted({clip.speaker for clip in clips})
    references = [clip for clip in clips if clip.take == 0]
    other = dict(zip(speakers, [*speakers[1:], speakers[0]], strict=True))
    return {
        "itself, inverted by Griffin-Lim": [
            (clip, copy) for clip, copy in zip(clips, copies, strict=True) if clip.take == 0
        ],
        "another take, same speaker": [(c, by[c.speaker, c.digit, 1]) for c in references],
        "same digit, other speaker": [(c, by[other[c.speaker], c.digit, 1]) for c in references],
        "other digit, same speaker": [
            (c, by[c.speaker, (c.digit + 1) % 10, 1]) for c in references
        ],
    }


def measure(compared: list[tuple[Clip, Clip]], front_end: FrontEnd) -> dict[str, Any]:
    """Return mean, interval and n of both figures over the pairs."""
    found = []
    for reference, candidate in compared:
        mels = [
            front_end.features(torch.from_numpy(clip.wave).float())[1]
            for clip in (reference, candidate)
        ]
        hop = front_end.settings.hop_length
        waves = (reference.wave, candidate.wave)
        found.append(compare_speech(*waves, SAMPLE_RATE, hop, *mels))
    return {name: summarize([one[name] for one in found]) for name in found[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="FSDD: holds recordings/")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        clips = [clip for clip in read_clips(arguments.root)[1] if clip.take < 2]
    except ValueError as error:
        print(f"metric_anchors: {error}", file=sys.stderr)
        return 2
    front_end = FrontEnd(AudioSettings(sample_rate=SAMPLE_RATE, n_mels=60))
    copies = copy_synthesis(clips, front_end, GriffinLimSettings(30, sharpening=1.0))
    rows = {name: measure(two, front_end) for name, two in pairs(clips, copies).items()}
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print(f"{'take 0 against':34}{'mcd_db':>22}{'f0_rmse_cents':>26}{'n':>5}")
    for name, row in rows.items():
        cells = [
            f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
            if not math.isnan(value["mean"])
            else "not voiced"
            for value in row.values()
        ]
        print(f"{name:34}{cells[0]:>22}{cells[1]:>26}{row['mcd_db']['n']:>5}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
