"""Recognition and corpora, times real time: `transcribe` and `prepare` beside the peers' chains.

    python benchmarks/speed_listening.py [--wavs LJSpeech-1.1/wavs] [--rounds 3] [--json]

transcribe: two minutes of speech at 16 kHz, features, network and greedy decoding. tacoskip's
network is `recipe=ljspeech_asr`'s; speechbrain's chain is its Fbank and CRDNN (as in its recipes),
torchaudio's its MelSpectrogram and a Conformer of equal size in four layers; all with random
weights, one minute at a time. pocketsphinx is a whole recognizer with its own English model. The
networks differ: read it as what a user waits for. `parameters` are in millions.

prepare: 400 clips of 3 s, wav at 22,050 Hz, into a new folder. The rate, seconds of audio a second,
is how many times real time it is. Who does what:

- tacoskip, `recipe=ljspeech`, as many threads as torch has: checks each file for being whole,
  finite and not clipped; trims, levels to an RMS, writes 16-bit flac, each file whole or not at
  all; normalises and phonemizes the text and counts what the voice has no symbol for; refuses
  speaking rates that cannot be true; splits; writes manifests, a journal to go on from, statistics
  and a picture.
- "librosa, all of it": the same results from librosa (load, trim), numpy (finite, clipped, silent,
  too long; the same level), soundfile (flac), coqui-tts' English cleaners, phonemizer (all texts at
  once), json (manifests of three splits, statistics) and matplotlib (the picture); one thread, and
  as many as torch has. No journal, no whole-or-nothing, no refusal of rates or truncated files.
- lhotse: cuts from files, levelled by pyloudnorm (to LUFS, which costs more than an RMS), saved as
  flac with their manifest. No trimming, no checks, no text, no picture.
- "librosa" in the last table is the bare loop of public Tacotrons: load, trim, write wav.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import peers
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from preparing_peers import by_lhotse, by_librosa, load_trim_write
from sound import stretch
from timing import Contestant, Race, main, parser
from torch import nn

from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.data.settings import DataSettings
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import build_recognizer
from tacoskip.text.subwords import Characters

RATE, UNITS = 16000, 29
Wave = NDArray[np.float32]


def ours() -> tuple[Callable[[Wave], object], float]:
    """Return tacoskip's recognizer with random weights, and its parameters in millions."""
    torch.manual_seed(0)
    config = load_config("ljspeech_asr")
    model = build_recognizer(config, UNITS)
    recognizer = SpeechRecognizer(model, config, Characters())
    return recognizer.transcribe, millions(model)


def millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def minutes(wave: Wave) -> list[torch.Tensor]:
    """A minute at a time, as rows (1, N)."""
    return [torch.from_numpy(part)[None] for part in np.array_split(wave, -(-len(wave) // 960000))]


def greedy(log_probs: torch.Tensor) -> list[int]:
    """CTC's best unit of each frame, repeats and blanks dropped: (1, L, U)."""
    best = torch.unique_consecutive(log_probs[0].argmax(1))
    return best[best > 0].tolist()


def by_speechbrain() -> tuple[Callable[[Wave], object], float] | None:
    if not peers.load("speechbrain", "speechbrain.lobes.models.CRDNN"):
        return None
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.CRDNN import CRDNN

    fbank, network = Fbank(n_mels=80), CRDNN(input_shape=[None, None, 80], time_pooling=True)
    out = nn.Linear(512, UNITS)
    model = nn.Sequential(fbank, network, out).eval()
    with torch.inference_mode():
        model(torch.randn(1, RATE))  # speechbrain makes some layers on the first call

    @torch.inference_mode()
    def run(wave: Wave) -> None:
        for row in minutes(wave):
            greedy(model(row).log_softmax(2))

    return run, millions(model)


def by_torchaudio() -> tuple[Callable[[Wave], object], float]:
    mel = torchaudio.transforms.MelSpectrogram(RATE, 512, 400, 160, n_mels=80)
    encoder = torchaudio.models.Conformer(256, 4, 1024, 4, 31).eval()
    first = nn.Conv1d(80, 256, 5, 2, padding=2)
    out = nn.Linear(256, UNITS)

    @torch.inference_mode()
    def run(wave: Wave) -> None:
        for row in minutes(wave):
            x = first((mel(row) + 1e-6).log()).transpose(1, 2)  # (B, C, T) -> (B, T, C)
            found, _ = encoder(x, torch.tensor([x.shape[1]]))
            greedy(out(found).log_softmax(2))

    return run, sum(map(millions, (encoder, first, out)))


def by_pocketsphinx() -> Callable[[Wave], object] | None:
    found = peers.load("pocketsphinx", "pocketsphinx")
    if not found:
        return None
    decoder = found.Decoder(samprate=RATE, loglevel="FATAL")

    def run(wave: Wave) -> None:
        decoder.start_utt()
        decoder.process_raw((wave * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()

    return run


def transcribing(seconds: float, wavs: Path | None) -> Race:
    wave = stretch(seconds, RATE, wavs)
    named: dict[str, Any] = {"torchaudio, Conformer": by_torchaudio()}
    speechbrain = by_speechbrain()
    if speechbrain:
        named["speechbrain, CRDNN"] = speechbrain
    transcribe, size = ours()
    contestants = [
        Contestant("tacoskip", lambda: transcribe(wave) and None, figures={"parameters": size})
    ]
    for name, (run, size) in named.items():
        figures = {"parameters": size}
        contestants.append(Contestant(name, lambda r=run: r(wave), True, figures=figures))  # type: ignore[misc]
    pocketsphinx = by_pocketsphinx()
    if pocketsphinx:
        contestants.append(Contestant("pocketsphinx", lambda: pocketsphinx(wave), peer=True))
    return Race(f"transcribe {seconds:g} s", "s of audio", seconds, contestants)


def preparing(room: Path, clips: int, wavs: Path | None) -> Iterator[Race]:
    source, numbers = room / "corpus", count()
    (source / "wavs").mkdir(parents=True)
    wave, lines = stretch(3.0 * clips, 22050, wavs), []
    for number, part in enumerate(np.array_split(wave, clips)):
        soundfile.write(source / "wavs" / f"clip{number}.wav", part, 22050)
        lines.append(f"clip{number}|a clip of three seconds of speech, number {number}\n")
    (source / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    config = load_config("ljspeech")

    def tacoskip(source: Path, target: Path) -> None:
        data = DataSettings(corpus="folder", root=str(source), dir=str(target))
        report = prepare(data, config.audio, config.text, jobs=torch.get_num_threads())
        assert report.done == clips and report.kept

    def contestant(name: str, run: Callable[[Path, Path], None], peer: bool = True) -> Contestant:
        """Each run fills a folder that was not there, and leaves it."""
        return Contestant(name, lambda: run(source, room / f"done{next(numbers)}"), peer)

    same, lhotse = by_librosa(), by_lhotse()
    equal = [contestant("tacoskip", tacoskip, peer=False)]
    if same:
        equal.append(contestant("librosa, all of it", same))
        threads = torch.get_num_threads()
        if threads > 1:
            shared = partial(same, threads=threads)
            equal.append(contestant(f"librosa, all of it, {threads} threads", shared))
    if lhotse:
        equal.append(contestant("lhotse", lhotse))
    claim, seconds = f"prepare {clips} clips of 3 s", 3.0 * clips
    yield Race(claim, "s of audio", seconds, equal)
    bare = [contestant("tacoskip", tacoskip, peer=False), contestant("librosa", load_trim_write)]
    yield Race(f"{claim}, beside a bare loop", "s of audio", seconds, bare)


def races(options: argparse.Namespace) -> Iterator[Race]:
    yield transcribing(2.0 if options.quick else 120.0, options.wavs)
    with tempfile.TemporaryDirectory() as room:
        yield from preparing(Path(room), 2 if options.quick else 400, options.wavs)


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--wavs", type=Path, help="a folder of recordings")
    parsed = arguments.parse_args()
    sys.exit(main(parsed, races(parsed)))
