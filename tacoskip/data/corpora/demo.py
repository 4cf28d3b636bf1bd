"""The demo corpus: short English sentences, synthesized offline.

By hibari (extra `demo`, Apache-2.0), a small natural voice, where it is installed; else by
espeak-ng (extra `espeak`, GPL-3.0), which is called through its C interface. Most of its voices add
random flutter; `VOICE` is one that gives the same samples for the same text. hibari does too.
"""

import ctypes
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
from tacoskip.files import whole_folder

VOICE, RATE, PITCH = "en-us+edward2", 150, 50  # words a minute; 0 to 100
HIBARI, MODEL = "0.2.1", "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
CHECKOUT = Path(__file__).parents[3] / "data" / "demo_text"
PACKAGED = Path(__file__).parents[2] / "demo_text"
EDGE_SECONDS, NOISE = 0.08, 1e-4
SYNCHRONOUS, UTF8 = 2, 1  # AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8
PARAMETER_RATE, PARAMETER_PITCH = 1, 3  # espeakRATE, espeakPITCH

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
            "the demo corpus needs a synthesizer: pip install 'tacoskip[demo]'"
        ) from error
    data = str(espeakng_loader.get_data_path())
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0)
    if rate <= 0 or library.espeak_SetVoiceByName(VOICE.encode()) != 0:
        raise CorpusError(f"espeak-ng does not start: expected the voice {VOICE} in {data}")
    library.espeak_SetParameter(PARAMETER_RATE, RATE, 0)
    library.espeak_SetParameter(PARAMETER_PITCH, PITCH, 0)
    return library, rate


@cache
def _hibari() -> Any:
    """Return hibari's voice, or None where it is not installed.

    Raises CorpusError where its model is another than that of version HIBARI.
    """
    try:
        import hibari
    except ImportError:
        return None
    voice = hibari.Hibari()
    if sha256(Path(voice.model_path).read_bytes()).hexdigest() != MODEL:
        raise CorpusError(f"expected the voice of hibari-tts {HIBARI}, got another: reinstall it")
    return voice


def synthesize_clip(text: str, sample_rate: int = 22050) -> NDArray[np.float32]:
    """Synthesize a sentence as the demo corpus records it, a wave (N,).

    Both voices are digitally silent in their pauses, and espeak-ng begins and ends in mid-sound, as
    no recording does: 80 ms are put around it and noise 80 dB below full scale beneath, the same
    for the same text. Raises ValueError on a text without a sound, CorpusError when neither
    synthesizer is installed.
    """
    import soxr

    voice = _hibari()
    wave, rate = (voice(text, seed=0), voice.sample_rate) if voice else _espeak(text)
    if not wave.any():
        raise ValueError(f"expected a text with a sound, got {text[:60]!r}")
    if sample_rate != rate:
        wave = np.asarray(soxr.resample(wave, rate, sample_rate))
    edge = round(EDGE_SECONDS * sample_rate)
    noise = np.random.default_rng(list(text.encode())).standard_normal(len(wave) + 2 * edge)
    result: NDArray[np.float32] = np.pad(wave, edge) + np.float32(NOISE) * noise.astype("f4")
    return result


def _espeak(text: str) -> tuple[NDArray[np.float32], int]:
    """Return a wave (N,) by espeak-ng and its sample rate."""
    chunks: list[NDArray[np.int16]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(receive)
    library, rate = _library()
    library.espeak_SetSynthCallback(callback)
    raw = text.encode()
    library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()
    return np.concatenate([np.zeros(0), *chunks]).astype(np.float32) / np.float32(32768), rate


def sentences(name: str = "sentences") -> list[str]:
    """Return the corpus' sentences, or with "unseen" others, to judge a voice by.

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
    licence = "the project's own text; hibari (Apache-2.0) or espeak-ng (GPL-3.0) synthesizes it"
    citation = "hibari, github.com/MMWilliams/hibari; espeak-ng, github.com/espeak-ng/espeak-ng"

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        yield from read_pipes(root, root / "metadata.csv", "demo", notes)

    def fetch(self, downloads: Path, data: DataSettings, progress: Progress) -> Path:
        """Synthesize the corpus unless it is there; the folder appears whole or not at all."""
        from tacoskip.audio import write_audio

        texts = sentences()
        table = "".join(f"demo-{n:04d}|{text}\n" for n, text in enumerate(texts, 1))
        voice = f"hibari {HIBARI}" if _hibari() else f"{VOICE} {RATE} {PITCH}"
        made_of = f"{voice} {EDGE_SECONDS} {NOISE}\n{table}"
        folder = downloads / f"{self.name}-{sha256(made_of.encode()).hexdigest()[:8]}"
        if folder.exists():
            return folder
        with whole_folder(folder) as part:
            (part / "wavs").mkdir()
            for number, text in enumerate(texts, 1):
                write_audio(part / "wavs" / f"demo-{number:04d}.wav", synthesize_clip(text), 22050)
                progress(number, len(texts), "synthesize the demo's sentences")
            (part / "metadata.csv").write_text(table, encoding="utf-8")
        return folder
