"""Anchors for a voice's mcd_db and f0_rmse_cents: the same figures on real speech.

    python benchmarks/metric_anchors.py --root data/fsdd

Takes 0 and 1 of every digit and speaker of the Free Spoken Digit Dataset, compared with: themselves
after the front end and Griffin-Lim, another take by the same speaker, the same digit by another
speaker, another digit by the same speaker. A useful measure tells these apart.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import print_table

from tacoskip.audio import AudioSettings, FrontEnd, GriffinLimSettings, read_audio
from tacoskip.data.corpora.fsdd import NAME
from tacoskip.evaluation.metrics import compare_speech
from tacoskip.evaluation.results import summarize

SAMPLE_RATE = 8000
Wave = NDArray[np.float32]
Key = tuple[str, int, int]  # speaker, digit, take
INVERSION = GriffinLimSettings(30, sharpening=1.0)


def read_clips(root: Path) -> dict[Key, Wave]:
    """Read takes 0 and 1 in root/recordings, or in root itself."""
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    clips = {}
    for path in sorted(folder.glob("*_[01].wav")):
        if match := NAME.fullmatch(path.name):
            digit, speaker, take = match.groups()
            clips[speaker, int(digit), int(take)] = read_audio(path, SAMPLE_RATE)[0]
    return clips


def pairs(clips: dict[Key, Wave], front_end: FrontEnd) -> dict[str, list[tuple[Wave, Wave]]]:
    """Return what to compare with what: take 0 is always the reference."""
    speakers = sorted({speaker for speaker, _, _ in clips})
    following = dict(zip(speakers, [*speakers[1:], speakers[0]], strict=True))
    table: dict[str, list[tuple[Wave, Wave]]] = {}
    for (speaker, digit, take), wave in clips.items():
        if take:
            continue
        linear, _ = front_end.features(torch.from_numpy(wave))
        copy = front_end.to_wave(linear[None], settings=INVERSION)[0].numpy()
        for name, other in (
            ("itself, inverted by Griffin-Lim", copy),
            ("another take, same speaker", clips[speaker, digit, 1]),
            ("same digit, other speaker", clips[following[speaker], digit, 1]),
            ("other digit, same speaker", clips[speaker, (digit + 1) % 10, 1]),
        ):
            table.setdefault(name, []).append((wave, other))
    return table


def measure(compared: list[tuple[Wave, Wave]], front_end: FrontEnd) -> dict[str, str | int]:
    """Return mean and interval of both figures over the pairs, and the number of pairs."""
    figures = []
    for waves in compared:
        mels = [front_end.features(torch.from_numpy(wave))[1] for wave in waves]
        hop = front_end.settings.hop_length
        figures.append(compare_speech(*waves, SAMPLE_RATE, hop, *mels))
    row: dict[str, str | int] = {}
    for name in figures[0]:
        value = summarize([one[name] for one in figures])
        row[name] = f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return row | {"n": len(compared)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="FSDD: holds recordings/")
    root = parser.parse_args().root
    clips = read_clips(root)
    if not clips:
        print(f"expected files like 7_jackson_1.wav in {root}, got none", file=sys.stderr)
        return 2
    front_end = FrontEnd(AudioSettings(sample_rate=SAMPLE_RATE, n_mels=60))
    compared = pairs(clips, front_end).items()
    print_table([{"take 0 against": name} | measure(two, front_end) for name, two in compared])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
