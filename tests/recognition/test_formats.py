"""Subtitles and TextGrid, read back."""

import pytest

from tacoskip.recognition.transcript import Transcript
from tacoskip.timed_words import Word, cues, srt, textgrid, vtt


def word(text: str, start: float, end: float) -> Word:
    width = (end - start) / len(text)
    characters = tuple(
        Word(c, start + i * width, start + (i + 1) * width, 0.5) for i, c in enumerate(text)
    )
    return Word(text, start, end, 0.5, characters)


WORDS = [word("one", 0.5, 0.9), word("two", 1.0, 1.4), word("three", 3661.2, 3661.5)]


def test_srt() -> None:
    assert srt(WORDS) == (
        "1\n00:00:00,500 --> 00:00:01,400\none two\n\n2\n01:01:01,200 --> 01:01:01,500\nthree\n"
    )


def test_vtt() -> None:
    assert vtt(WORDS).startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.400\none two\n\n01:01:01.200")


def test_cues_are_short() -> None:
    many = [word("digit", 0.4 * i, 0.4 * i + 0.3) for i in range(100)]
    found = cues(many)
    assert [w for cue in found for w in cue] == many
    assert max(cue[-1].end - cue[0].start for cue in found) <= 6
    assert max(len(" ".join(w.text for w in cue)) for cue in found) <= 80


def test_rows_have_words_and_their_characters() -> None:
    rows = Transcript("a.wav", "one two three", 3662.0, WORDS).to_dict()["words"]
    assert rows[0]["text"] == "one" and rows[0]["end"] == 0.9
    assert [c["text"] for c in rows[2]["characters"]] == list("three")


def test_textgrid_covers_the_recording_without_gap_or_overlap() -> None:
    text = textgrid([*WORDS[:2], word("late", 1.3, 2.5)], seconds=2.4)
    tiers = text.split('"IntervalTier"\n')[1:]
    assert [tier.split("\n")[0] for tier in tiers] == ['"words"', '"characters"']
    for tier in tiers:
        _, start, end, size, *rows = tier.splitlines()
        starts, ends = [float(x) for x in rows[::3]], [float(x) for x in rows[1::3]]
        assert (start, end, int(size)) == ("0", "2.4000", len(rows) // 3)
        assert starts[0] == 0 and ends[-1] == pytest.approx(2.4) and starts[1:] == ends[:-1]
    assert tiers[0].splitlines()[6::3] == ['""', '"one"', '""', '"two"', '"late"']


def test_words_with_markup_or_line_breaks_add_no_cue() -> None:
    """A checkpoint's vocabulary may hold anything."""
    odd = [word("a\n\n2", 0, 1), word("-->", 1, 2), word("\n", 2, 3), word('<b>&"', 9, 10)]
    assert srt(odd).splitlines()[2] == "a 2 ->" and len(srt(odd).split("\n\n")) == 2
    assert vtt(odd).count("-->") == 2 and "&lt;b&gt;&amp;" in vtt(odd)
    assert '\n"<b>&"""\n' in textgrid(odd, 10.0)
