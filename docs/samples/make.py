"""Write the samples of this folder.

    python docs/samples/make.py RUN CLIP_ID [DEMO_RUN]

RUN: a voice trained on a corpus; CLIP_ID: a clip of its test split. Recording, copy-synthesis (the
recording's magnitudes through Griffin-Lim) and the voice's own reading of the text; with DEMO_RUN
the README's sentence by that voice.
"""

import sys
from pathlib import Path

import soundfile
import torch

import tacoskip
from tacoskip.data.prepared import PreparedCorpus

HERE = Path(__file__).parent
DEMO = "The queen gave my sister a yellow box."


def main(run: str, clip_id: str, demo: str = "") -> None:
    voice = tacoskip.load(run)
    (clip,) = [clip for clip in PreparedCorpus.of(voice.config).test if clip.id == clip_id]
    wave = torch.from_numpy(clip.load())
    linear, _ = voice.front_end.features(wave)
    copy = voice.front_end.to_wave(linear[None], None, voice.config.griffin_lim)[0]
    spoken = voice.synthesize(clip.normalized).wave
    for name, samples in (("recording", wave), ("copy", copy), ("voice", spoken)):
        write(f"arctic_{name}", samples, voice.sample_rate)
    if demo:
        voice = tacoskip.load(demo)
        write("demo", voice.synthesize(DEMO).wave, voice.sample_rate)


def write(name: str, samples: object, rate: int) -> None:
    soundfile.write(HERE / f"{name}.ogg", samples, rate, format="OGG", subtype="VORBIS")


if __name__ == "__main__":
    main(*sys.argv[1:])
