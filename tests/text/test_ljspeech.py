"""The 13,100 pairs of raw and normalised text of LJSpeech, where they are at hand."""

import os
from pathlib import Path

import pytest

from tacoskip.text import Tokenizer, normalize, split_sentences

DATA = Path(os.environ.get("TACOSKIP_DATA", Path(__file__).parents[2].parent / "shared/data"))
PAIRS = DATA / "LJSpeech-100/all_transcripts.csv"
pytestmark = pytest.mark.skipif(
    not PAIRS.exists(), reason=f"LJSpeech's transcripts are not at {PAIRS}"
)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    rows = (line.split("|") for line in PAIRS.read_text(encoding="utf-8").splitlines())
    return [(raw, column) for _, raw, column in rows]


def test_style_of_ljspeech_matches_its_column(pairs: list[tuple[str, str]]) -> None:
    assert len(pairs) == 13_100
    changed = [(raw, column) for raw, column in pairs if raw != column]
    assert len(changed) == 1_505
    matches = [normalize(raw, style="ljspeech") == column for raw, column in changed]
    assert sum(matches) >= 1_491
    same = [raw for raw, column in pairs[::4] if raw == column]
    # The column leaves "King Sargon I.".
    assert sum(normalize(raw, style="ljspeech") != raw for raw in same) <= 1


def test_a_voice_hears_the_same_from_text_and_column(pairs: list[tuple[str, str]]) -> None:
    changed = [(raw, column) for raw, column in pairs if raw != column]
    same = [normalize(raw) == normalize(column) for raw, column in changed]
    assert sum(same) >= 1_492
    spoken = [normalize(raw) for raw, _ in (*pairs[::20], *changed)]
    assert [s for s in spoken if normalize(s) != s] == []


def test_no_character_of_ljspeech_is_lost(
    pairs: list[tuple[str, str]], recwarn: pytest.WarningsRecorder
) -> None:
    tokenizer = Tokenizer()
    encoded = tokenizer.encode_many([column for _, column in pairs], normalized=True)
    assert [str(w.message) for w in recwarn] == []
    assert tokenizer.decode(encoded[0]) == pairs[0][1].lower()


def test_sentences_of_ljspeech(pairs: list[tuple[str, str]]) -> None:
    text = " ".join(raw for raw, _ in pairs[:3000])
    pieces = split_sentences(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert max(map(len, pieces)) <= 200
    ends_badly = ("Mr.", "Mrs.", "Messrs.", "St.", "Dr.", "Capt.", " J.", "i.e.", "No.")
    assert [p for p in pieces if p.endswith(ends_badly)] == []
