"""Small corpora to prepare: buzz that is as long as its text wants."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tacoskip.audio import AudioSettings
from tacoskip.data.prepare import PrepareReport, prepare
from tacoskip.data.settings import DataSettings
from tacoskip.text import TextSettings

Prepare = Callable[..., PrepareReport]


def corpus_config(data: DataSettings, audio: AudioSettings) -> SimpleNamespace:
    """Return what `prepare` and `PreparedCorpus.of` read of a config."""
    return SimpleNamespace(data=data, audio=audio, text=TextSettings())


class Maker:
    """Makes clips and corpora, and the settings they are prepared with."""

    rate = 8000
    config = staticmethod(corpus_config)
    audio = AudioSettings(sample_rate=8000, n_mels=20)

    def buzz(
        self, seconds: float, rate: int = 8000, pitch: float = 120.0, level: float = 0.1
    ) -> NDArray[np.float64]:
        """Harmonics of a pitch over faint noise (N,)."""
        time = np.arange(round(seconds * rate)) / rate
        tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
        noise = np.random.default_rng(round(pitch)).standard_normal(len(time))
        return level * np.asarray(tone) + 1e-4 * noise

    def words(self, count: int) -> list[tuple[str, str]]:
        """Return `count` clips, (id, text) of one to three words."""
        colours = "red green blue white black yellow brown gray".split()
        return [
            (f"c{n:03d}", " ".join(colours[n * step % 8] for step in (1, 3, 5)[: 1 + n % 3]))
            for n in range(count)
        ]

    def wavs(self, root: Path, clips: Sequence[tuple[str, str]]) -> None:
        """Write wavs/ID.wav for (id, text), 0.1 s a character."""
        (root / "wavs").mkdir(parents=True, exist_ok=True)
        for id, text in clips:
            pitch = 100 + sum(id.encode()) % 90
            wave = self.buzz(0.1 * max(5, len(text)), self.rate, pitch)
            soundfile.write(root / "wavs" / f"{id}.wav", wave, self.rate)

    def corpus(self, root: Path, clips: Sequence[tuple[str, str]]) -> Path:
        """Write a folder of LJSpeech's layout."""
        self.wavs(root, clips)
        table = "".join(f"{id}|{text}\n" for id, text in clips)
        (root / "metadata.csv").write_text(table, encoding="utf-8")
        return root


@pytest.fixture(scope="session")
def make() -> Maker:
    return Maker()


@pytest.fixture
def corpus(tmp_path: Path, make: Maker) -> Path:
    """A folder of 24 sound clips, c000 to c023."""
    return make.corpus(tmp_path / "corpus", make.words(24))


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory, make: Maker) -> Path:
    root = tmp_path_factory.mktemp("prepared once")
    make.corpus(root / "corpus", make.words(24))
    data = DataSettings("folder", str(root / "corpus"), str(root / "prepared"))
    prepare(corpus_config(data, make.audio), jobs=1)
    return root / "prepared"


@pytest.fixture
def folder(tmp_path: Path, prepared_once: Path) -> Path:
    """A prepared folder of 24 clips, to be damaged."""
    return Path(shutil.copytree(prepared_once, tmp_path / "prepared"))


@pytest.fixture
def run(tmp_path: Path, make: Maker) -> Prepare:
    """Prepares a folder into tmp_path/prepared, with settings by keyword."""

    def call(root: Path, corpus: str = "folder", **settings: object) -> PrepareReport:
        progress = settings.pop("progress", None)
        audio = settings.pop("audio", make.audio)
        fields = {"dir": str(tmp_path / "prepared"), "root": str(root)} | settings
        config = corpus_config(DataSettings(corpus=corpus, **fields), audio)
        return prepare(config, jobs=2, progress=progress)

    return call
