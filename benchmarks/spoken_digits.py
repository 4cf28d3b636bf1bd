"""A corpus of digits that a voice speaks: does synthetic speech help a recognizer with little real?

    tacoskip train recipe=fsdd     data.root=FSDD data.train_share=0.1 run=runs/voice10
    tacoskip train recipe=fsdd_asr data.root=FSDD data.train_share=0.1 run=runs/ears10
    python benchmarks/spoken_digits.py runs/voice10 --out data/spoken [--strings 200] [--seed 0]
    tacoskip prepare recipe=fsdd_asr data.corpus=folder data.root=data/spoken
    tacoskip train recipe=fsdd_asr data.root=FSDD data.train_share=0.1 run=runs/both10
        data.extra=[the folder that prepare named]
    tacoskip evaluate runs/ears10
    tacoskip evaluate runs/both10

Each speaker of the voice says so many strings of one to five digits. What did not end by itself or
lost its alignment is left out. Writes OUT/wavs and OUT/metadata.csv (path, text, speaker).
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import soundfile

from tacoskip.synthesis.voice import load_voice

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TOGETHER = 32  # strings spoken in one batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", help="a run of recipe=fsdd")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strings", type=int, default=200, help="of each speaker")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    voice = load_voice(arguments.voice)
    rng = np.random.default_rng(arguments.seed)
    (arguments.out / "wavs").mkdir(parents=True, exist_ok=True)
    rows, failed = list[tuple[str, str, str]](), 0
    for speaker in voice.speakers:
        # A voice says the same text the same way each time, so each is drawn once.
        texts = list[str]()
        while len(texts) < arguments.strings:
            text = " ".join(rng.choice(WORDS, size=rng.integers(1, 6)))
            texts += [text] if text not in texts else []
        for first in range(0, len(texts), TOGETHER):
            batch = texts[first : first + TOGETHER]
            said = voice.synthesize(batch, speaker=speaker, seed=arguments.seed + first)
            for number, speech in enumerate(said, first):
                if speech.warnings or not speech.stopped:
                    failed += 1
                    continue
                name = f"wavs/{speaker}-{number:04d}.wav"
                soundfile.write(arguments.out / name, speech.wave, speech.sample_rate)
                rows.append((name, speech.text, speaker))
        print(f"{speaker}: {len(rows)} kept, {failed} failed so far", file=sys.stderr)
    with (arguments.out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "text", "speaker"))
        table.writerows(rows)


if __name__ == "__main__":
    main()
