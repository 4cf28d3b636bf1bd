"""The demo corpus: short English sentences, synthesized offline by espeak-ng (extra, GPL-3.0).

espeak-ng is called through its C interface. Most of its voices add random flutter; `VOICE` is one
that gives the same samples for the same text.
"""

import ctypes
import shutil
import threading
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacoskip.data.corpora import Corpus
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_pipes
from tacoskip.data.utterance import Notes, Utterance

VOICE, RATE, PITCH = "en-us+edward2", 150, 50  # words a minute; 0 to 100
CHECKOUT = Path(__file__).parents[3] / "data" / "demo_text"
PACKAGED = Path(__file__).parents[2] / "demo_text"
EDGE_SECONDS, NOISE = 0.08, 1e-4
SYNCHRONOUS, UTF8 = 2, 1  # AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8
PARAMETER_RATE, PARAMETER_PITCH = 1, 3  # espeakRATE, espeakPITCH

_lock = threading.Lock()  # the library has one state for the whole process
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@cache
def _library() -> tuple[Any, int]:
    """Return espeak-ng, ready to speak with `VOICE`, and the sample rate it speaks at."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise CorpusError(
            "the demo corpus needs espeak-ng: pip install 'tacoskip[espeak]' (GPL-3.0)"
        ) from error
    data = str(espeakng_loader.get_data_path())
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0)
    if rate <= 0 or library.espeak_SetVoiceByName(VOICE.encode()) != 0:
        raise CorpusError(f"espeak-ng does not start: expected the voice {VOICE} in {data}")
    library.espeak_SetParameter(PARAMETER_RATE, RATE, 0)
    library.espeak_SetParameter(PARAMETER_PITCH, PITCH, 0)
    return library, rate


def synthesize_clip(text: str, sample_rate: int = 22050) -> NDArray[np.float32]:
    """Synthesize a sentence as the demo corpus records it, a wave (N,).

    `VOICE` begins and ends in mid-sound and is digitally silent in its pauses, as no recording is,
    so 80 ms are put around it and noise 80 dB below full scale beneath, the same for the same text.
    Raises ValueError on a text without a sound, CorpusError when espeak-ng is not installed.
    """
    import soxr

    chunks: list[NDArray[np.int16]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(receive)
    with _lock:
        library, library_rate = _library()
        library.espeak_SetSynthCallback(callback)
        raw = text.encode()
        library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, UTF8, None, None)
        library.espeak_Synchronize()
    wave = np.concatenate([np.zeros(0), *chunks]).astype(np.float32) / np.float32(32768)
    if not wave.any():
        raise ValueError(f"espeak-ng gives no sound for {text[:60]!r}")
    if sample_rate != library_rate:
        wave = np.asarray(soxr.resample(wave, library_rate, sample_rate))
    edge = round(EDGE_SECONDS * sample_rate)
    noise = np.random.default_rng(list(text.encode())).standard_normal(len(wave) + 2 * edge)
    result: NDArray[np.float32] = np.pad(wave, edge) + np.float32(NOISE) * noise.astype("f4")
    return result


def sentences(name: str = "sentences") -> list[str]:
    """Return the corpus' sentences, or with "unseen" those of its words that it does not hold.

    They are read from the source checkout, or from the installed package.
    """
    folder = CHECKOUT if CHECKOUT.is_dir() else PACKAGED
    try:
        text = (folder / f"{name}.txt").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CorpusError(f"expected the demo's text in {folder}, found none") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


class Demo(Corpus):
    """Synthesized once, then laid out as LJSpeech is; again when sentences or voice change."""

    name = "demo"
    sample_rate = 16000
    licence = "the project's own text; espeak-ng (GPL-3.0) synthesizes it"
    citation = "espeak-ng, https://github.com/espeak-ng/espeak-ng"

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        yield from read_pipes(root, root / "metadata.csv", "demo", notes)

    def fetch(self, downloads: Path, data: DataSettings, progress: Progress) -> Path:
        """Synthesize the corpus unless it is there; the folder appears whole or not at all."""
        from tacoskip.audio import write_audio

        texts = sentences()
        table = "".join(f"demo-{n:04d}|{text}\n" for n, text in enumerate(texts, 1))
        made_of = f"{VOICE} {RATE} {PITCH} {EDGE_SECONDS} {NOISE}\n{table}"
        folder = downloads / f"{self.name}-{sha256(made_of.encode()).hexdigest()[:8]}"
        if folder.exists():
            return folder
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        (part / "wavs").mkdir(parents=True)
        for number, text in enumerate(texts, 1):
            write_audio(part / "wavs" / f"demo-{number:04d}.wav", synthesize_clip(text), 22050)
            progress(number, len(texts), "synthesize the demo's sentences")
        (part / "metadata.csv").write_text(table, encoding="utf-8")
        part.replace(folder)
        return folder
