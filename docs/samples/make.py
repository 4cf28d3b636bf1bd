"""Write the samples of this folder.

    python docs/samples/make.py RUN CLIP_ID [--demo RUN] [--readers RUN] [--blocks RUN]...

RUN: a voice; CLIP_ID: a clip of its test split. Written are the recording, its copy-synthesis (the
recording's magnitudes through Griffin-Lim) and the voice's own reading of the text. `--demo`: the
README's sentence by that voice. `--readers`: the clip's text by each speaker of that voice, one
after another. `--blocks`: the README's sentence by each of these voices, one after another.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer

import tacoskip
from tacoskip.data.prepared import PreparedCorpus

HERE = Path(__file__).parent
DEMO = "The queen gave my sister a yellow box."
BETWEEN = 0.4  # seconds of silence between two voices in one file


def main(
    run: str,
    clip_id: str,
    demo: str = "",
    readers: str = "",
    blocks: Annotated[list[str], typer.Option()] = [],  # noqa: B006
) -> None:
    voice = tacoskip.load(run)
    (clip,) = [clip for clip in PreparedCorpus.of(voice.config).test if clip.id == clip_id]
    wave = torch.from_numpy(clip.load())
    linear, _ = voice.front_end.features(wave)
    copy = voice.front_end.to_wave(linear[None], None, voice.config.griffin_lim)[0]
    text = clip.normalized
    write("arctic_recording", [wave], voice.sample_rate)
    write("arctic_copy", [copy], voice.sample_rate)
    write("arctic_voice", [voice.synthesize(text).wave], voice.sample_rate)
    if demo:
        voice = tacoskip.load(demo)
        write("demo", [voice.synthesize(DEMO).wave], voice.sample_rate)
    if readers:
        voice = tacoskip.load(readers)
        spoken = [voice.synthesize(text, speaker=name).wave for name in voice.speakers]
        write("readers", spoken, voice.sample_rate)
    if blocks:
        voices = [tacoskip.load(block) for block in blocks]
        write("blocks", [v.synthesize(DEMO).wave for v in voices], voices[0].sample_rate)


def write(name: str, waves: Iterable[np.ndarray | torch.Tensor], rate: int) -> None:
    silence = np.zeros(int(BETWEEN * rate), dtype=np.float32)
    parts = [part for wave in waves for part in (np.asarray(wave), silence)]
    samples = np.concatenate(parts[:-1])
    soundfile.write(HERE / f"{name}.ogg", samples, rate, format="OGG", subtype="VORBIS")


if __name__ == "__main__":
    typer.run(main)
