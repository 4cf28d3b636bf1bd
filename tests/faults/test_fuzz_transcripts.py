"""Transcripts in srt, vtt, TextGrid and JSON parse back by each format's rules."""

import json
import re
from typing import Any

from hypothesis import strategies as st

from tacoskip.recognition.transcript import Transcript
from tacoskip.timed_words import Word, cues, srt, textgrid, vtt

from .conftest import Fuzz

SRT_CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})"
TEXTS = st.one_of(
    st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=12),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
    st.sampled_from(['"', "-->", "<b>", "&amp;", "a\n\n2", "\u2028", "NOTE", "x\r\ny"]),
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words with rising times, up to days from the start."""
    words, at = [], draw(st.sampled_from([0.0, 3599.9996, 86_400.0]))
    for text in draw(st.lists(TEXTS, max_size=12)):
        start = at + draw(st.floats(0, 2))
        at = start + draw(st.floats(0, 1))
        confidence = draw(st.floats(0, 1))
        words.append(Word(text, start, at, confidence, (Word(text, start, at, confidence),)))
    seconds = at + draw(st.floats(0, 1))
    return Transcript("a.wav", " ".join(word.text for word in words), seconds, words)


def seconds(clock: tuple[str, ...]) -> float:
    hours, minutes, rest, thousandths = map(int, clock)
    return 3600 * hours + 60 * minutes + rest + thousandths / 1000


def test_srt_and_vtt_parse_back(fuzz: Fuzz) -> None:
    def check(transcript: Transcript) -> None:
        groups = cues(transcript.words)
        blocks = srt(transcript.words).split("\n\n") if groups else []
        assert len(blocks) == len(groups)
        last = 0.0
        for number, (block, cue) in enumerate(zip(blocks, groups, strict=True), 1):
            lines = [*block.rstrip("\n").split("\n"), ""]
            assert lines[0] == str(number) and "-->" not in lines[2] and len(lines) <= 4
            clocks = re.fullmatch(f"{SRT_CLOCK} --> {SRT_CLOCK}", lines[1])
            assert clocks is not None
            start, end = seconds(clocks.groups()[:4]), seconds(clocks.groups()[4:])
            assert last - 0.002 <= start <= end and abs(start - cue[0].start) < 0.001
            last = end
        text = vtt(transcript.words)
        assert text.startswith("WEBVTT\n") and text.count("-->") == len(groups)
        assert not re.search("<|&(?!amp;|lt;|gt;)", text.replace("-->", ""))

    fuzz("transcripts: srt, vtt", check, transcripts(), share=0.5)


def test_textgrid_parses_back(fuzz: Fuzz) -> None:
    def check(transcript: Transcript) -> None:
        text = textgrid(transcript.words, transcript.seconds)
        # Praat: a text is in quotes, a quote inside is doubled.
        for tier in text.split('"IntervalTier"\n')[1:]:
            rows = tier.splitlines()[4:]
            assert int(tier.splitlines()[3]) == len(rows) // 3
            assert all(re.fullmatch(r'("[^"]*")+', quoted) for quoted in rows[2::3])
            starts, ends = [*map(float, rows[::3])], [*map(float, rows[1::3])]
            assert starts == sorted(starts) and starts[1:] == ends[:-1]

    fuzz("transcripts: TextGrid", check, transcripts(), share=0.5)


def test_json_parses_back(fuzz: Fuzz) -> None:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    def check(transcript: Transcript) -> None:
        text = transcript.render("json")
        read = json.loads(text, parse_constant=refuse)
        assert [word["text"] for word in read["words"]] == [w.text for w in transcript.words]

    fuzz("transcripts: json", check, transcripts(), share=0.5)
