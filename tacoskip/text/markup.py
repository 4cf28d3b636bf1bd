"""Marks in a text that control speech: pauses, [[phonemes]], and a lexicon of pronunciations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tacoskip.files import decode_text, read_regular
from tacoskip.text.symbols import PHONEME_MARK

LONGEST_PAUSE = 60.0  # seconds
LARGEST_LEXICON = 1_000_000  # bytes

_PAUSE = re.compile(r"\[pause\s[^\[\]]*\]|<break\b[^<>]*>", re.IGNORECASE)
_SECONDS = re.compile(r"[^0-9.]*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}) ?(ms|s)[\"']? ?/?[\]>]")
_MARK = re.compile(rf"{PHONEME_MARK.pattern}(?:['’]s\b)?|{_PAUSE.pattern}", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")
_MARK_OR_WORD = re.compile(f"{_MARK.pattern}|{_WORD.pattern}", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """A stretch of text to speak, its [[phonemes]] inside it, or a pause where `text` is empty."""

    text: str = ""
    pause_seconds: float = 0.0


def parse(text: str, lexicon: Mapping[str, str] | None = None) -> list[Part]:
    """Split a text at `[pause 0.5s]` and `<break time="500ms"/>`, and respell words by a lexicon.

    Raises ValueError for a pause without a time or above LONGEST_PAUSE, and where no text is left.
    """
    text, parts, spoken, position = respell(text, dict(lexicon or {})), [], "", 0
    for match in _MARK.finditer(text):
        spoken += text[position : match.start()]
        position = match.end()
        if match[0].startswith("[["):
            spoken += _phonemes(match[0])
        else:
            parts += [Part(spoken.strip()), Part(pause_seconds=_pause_seconds(match[0]))]
            spoken = ""
    parts.append(Part((spoken + text[position:]).strip()))
    # Punctuation between two pauses has no sound; a text of signs alone may have one.
    audible = [p for p in parts if p.pause_seconds or any(c.isalnum() for c in p.text)]
    if not any(p.text for p in audible):
        audible = [p for p in parts if p.pause_seconds or p.text]
    if not any(p.text for p in audible):
        raise ValueError(f"nothing to speak in {text[:60]!r}")
    return audible


def respell(text: str, lexicon: Mapping[str, str]) -> str:
    """Replace the words of a lexicon; an entry in lower case stands for every case."""

    def word(match: re.Match[str]) -> str:
        return lexicon.get(match[0]) or lexicon.get(match[0].lower(), match[0])

    def compound(match: re.Match[str]) -> str:
        if match[0][0] in "[<":
            return match[0]
        whole = word(match)
        return re.sub(r"\w+", word, whole) if whole == match[0] else whole

    return _MARK_OR_WORD.sub(compound, text) if lexicon else text


def read_lexicon(path: str | Path) -> dict[str, str]:
    """Read a UTF-8 file of lines `word respelling` or `word [[phonemes]]`; # begins a comment.

    Raises ValueError, which names the line, for a file that is not so or above LARGEST_LEXICON,
    OSError for one that cannot be read.
    """
    try:
        lines = decode_text(read_regular(path, LARGEST_LEXICON), path).splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such lexicon file") from None
    lexicon: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        word, *spoken = line.split(maxsplit=1) or ["#"]
        if word.startswith("#"):
            continue
        problem = ""
        if not spoken or not _WORD.fullmatch(word):
            problem = f"expected a word and its respelling or [[phonemes]], got {line[:60]!r}"
        elif ("[[" in spoken[0] or "]]" in spoken[0]) and not PHONEME_MARK.search(spoken[0]):
            problem = f"expected phonemes as [[...]], got {spoken[0][:60]!r}"
        elif word in lexicon:
            problem = f"a second entry for {word!r}"
        if problem:
            raise ValueError(f"{path}, line {number}: {problem}")
        lexicon[word] = spoken[0].strip()
    return lexicon


def _phonemes(mark: str) -> str:
    """Write a mark without spaces, at which a long sentence may be cut, and its 's as phonemes."""
    inside, _, possessive = mark[2:].partition("]]")
    words = inside.split()
    if possessive and words:
        last = words[-1][-1]
        words[-1] += "ᵻz" if last in "szʃʒ" else "s" if last in "ptkfθ" else "z"
    return " ".join(f"[[{one}]]" for one in words)


def _pause_seconds(mark: str) -> float:
    match = _SECONDS.fullmatch(mark)
    if not match:
        raise ValueError(f'expected [pause 0.5s] or <break time="500ms"/>, got {mark!r}')
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    if seconds > LONGEST_PAUSE:
        raise ValueError(f"expected a pause of at most {LONGEST_PAUSE:g} s, got {mark!r}")
    return seconds
