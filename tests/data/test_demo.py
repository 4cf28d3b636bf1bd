"""The demo corpus: its sentences, its voice, and the way into a prepared folder."""

import builtins
import hashlib
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tacoskip.audio import AudioSettings
from tacoskip.data.corpora import demo
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import DataSettings
from tacoskip.text import normalize


@pytest.fixture(params=["hibari", "espeak"])
def voice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The voice that speaks the corpus."""
    name = str(request.param)
    if name == "hibari":
        pytest.importorskip("hibari", reason="the demo extra is not installed")
    else:
        pytest.importorskip("espeakng_loader", reason="the espeak extra is not installed")
        monkeypatch.setattr(demo, "_hibari", lambda: None)
    return name


def spelled(sentence: str) -> list[str]:
    return re.findall("[a-z]+", sentence.lower())


def test_sentences_are_short_simple_and_many():
    texts = demo.sentences()
    assert len(texts) == 1800 and len({" ".join(spelled(t)) for t in texts}) == len(texts)
    for text in texts:
        assert 12 <= len(text) <= 72 and 3 <= len(spelled(text)) <= 16
        assert re.fullmatch(r"[A-Z][A-Za-z ,']+[.?!]", text) and normalize(text) == text
    letters = Counter("".join(word for text in texts for word in spelled(text)))
    assert set(letters) == set("abcdefghijklmnopqrstuvwxyz") and min(letters.values()) >= 30


def test_unseen_sentences_are_not_in_the_corpus():
    seen = {" ".join(spelled(text)) for text in demo.sentences()}
    unseen = demo.sentences("unseen")
    assert len(unseen) == 30
    assert not seen & {" ".join(spelled(text)) for text in unseen}


def test_sentences_of_an_installed_package(tmp_path, monkeypatch):
    """A wheel carries the text as the folder tacoskip/demo_text."""
    shutil.copytree(demo.CHECKOUT, tmp_path / "demo_text")
    expected = demo.sentences()
    monkeypatch.setattr(demo, "CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(demo, "PACKAGED", tmp_path / "demo_text")
    assert demo.sentences() == expected
    with pytest.raises(CorpusError, match="demo_text"):
        demo.sentences("other")


def test_synthesis_is_deterministic(voice):
    first = demo.synthesize_clip("The cat sat by the river.")
    demo.synthesize_clip("Something else!")
    np.testing.assert_array_equal(first, demo.synthesize_clip("The cat sat by the river."))
    program = (
        f"import sys; sys.modules.update({{}} if {voice == 'hibari'} else {{'hibari': None}});"
        "import hashlib; from tacoskip.data.corpora.demo import synthesize_clip;"
        "print(hashlib.sha256(synthesize_clip('The cat sat by the river.').tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(first.tobytes()).hexdigest()


def test_sample_rate_and_empty_text(voice):
    wave = demo.synthesize_clip("A long warm day.")
    assert len(demo.synthesize_clip("A long warm day.", 8000)) == pytest.approx(
        len(wave) * 8000 / 22050, abs=2
    )
    with pytest.raises(ValueError, match="expected a text with a sound"):
        demo.synthesize_clip("")


def test_another_voice_under_the_same_name_is_refused(monkeypatch):
    pytest.importorskip("hibari", reason="the demo extra is not installed")
    demo._hibari.cache_clear()
    monkeypatch.setattr(demo, "MODEL", "0" * 64)
    with pytest.raises(CorpusError, match="expected the voice of hibari-tts"):
        demo.synthesize_clip("A long warm day.")


def test_from_text_to_a_prepared_corpus(voice, tmp_path, make, monkeypatch):
    texts = demo.sentences()[:12]
    monkeypatch.setattr(demo, "sentences", lambda name="sentences": texts)
    data = DataSettings(corpus="demo", dir=str(tmp_path / "prepared"))
    config = make.config(data, AudioSettings(sample_rate=16000))
    report = prepare(config, jobs=2, downloads=tmp_path)
    assert (report.kept, report.dropped, report.warnings) == (12, [], [])
    assert PreparedCorpus(report.dir).speakers == ["demo"]
    spoken = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("demo-*/wavs/*")}
    assert len(spoken) == 12
    assert prepare(config, jobs=2, downloads=tmp_path).done == 0
    texts.append("We need one more.")
    assert prepare(config, jobs=2, downloads=tmp_path).kept == 13


def test_without_the_extra(monkeypatch, make, tmp_path):
    original = builtins.__import__

    def refuse(name: str, *args: object) -> object:
        if name in ("espeakng_loader", "hibari"):
            raise ImportError(name)
        return original(name, *args)

    demo._library.cache_clear()
    demo._hibari.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    config = make.config(DataSettings(corpus="demo", dir=str(tmp_path / "p")), AudioSettings())
    with pytest.raises(CorpusError, match=r"pip install 'tacoskip\[demo\]'") as error:
        prepare(config, downloads=tmp_path)
    assert "\n" not in str(error.value)
