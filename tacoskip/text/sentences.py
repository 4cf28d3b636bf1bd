"""Long text in sentences of a length that a voice synthesizes well."""

import re

from tacoskip.text.tables import ENGLISH, words

# A stop with the quotes and brackets that close behind it.
_STOP = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]+[\"')\]}\u201d\u2019\u00bb]{0,4}(?= )|"
    r"[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]{0,2} ?"
)
_LAST_WORD = re.compile(r"[^\s\"'(\[{\u201c\u2018]+\Z")
_LETTERS_WITH_STOPS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
# Where a sentence that is too long is cut: the first kind that serves.
_CUTS = (
    re.compile(r"[;:](?= )|(?<= )--(?= )|\u2014"),
    re.compile(r",(?= )"),
    re.compile(r"(?<!\.)(?= )"),
    re.compile(r"(?= )"),
)


def ends_sentence(text: str, end: int) -> bool:
    """Whether a sentence ends at `end`, behind a stop: the text does, or a new one begins."""
    behind = text[end : end + 40].lstrip("\"')]}")
    if not behind:
        return True
    word = re.match("[^\\W\\d_]*", behind[1:].lstrip("\"'(["))
    return behind[0] == " " and word is not None and word[0] in words("starters")


def split_sentences(text: str, max_characters: int = 200) -> list[str]:
    """Sentences of `text`, none longer than `max_characters`; runs of white space become one space.

    A sentence never ends inside an abbreviation (Dr. Smith, 3.14, the U.S. Army) and always at an
    empty line. One that is too long is cut near the middle at semicolons, colons or dashes, else
    at commas, else at spaces, else anywhere. Every other character is kept, in order.
    """
    if max_characters < 1:
        raise ValueError(f"expected max_characters of at least 1, got {max_characters}")
    parts: list[str] = []
    for paragraph in _BLANK_LINE.split(text):
        for sentence in _sentences(" ".join(paragraph.split())):
            mute = not any(c.isalnum() for c in sentence)
            if mute and parts and len(parts[-1]) + 1 + len(sentence) <= max_characters:
                # Punctuation alone has no sound; it stays with the sentence before it.
                parts[-1] += " " + sentence
            else:
                parts.extend(_fit(sentence, max_characters))
    return parts


def _sentences(paragraph: str) -> list[str]:
    start, sentences = 0, []
    for match in _STOP.finditer(paragraph):
        if _is_end(paragraph, start, match):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    return [s for s in (*sentences, paragraph[start:].strip()) if s]


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    after = text[match.end() + 1 : match.end() + 2]
    if match[0][0] in "\u3002\uff01\uff1f":
        return True
    if after.islower():
        return False
    if match[0] != ".":
        return True
    found = _LAST_WORD.search(text, max(start, match.start() - 20), match.start())
    word = found[0] if found else ""
    if after.isdigit() and word.lower() in ENGLISH["before_numbers"]:
        return False
    if word in ENGLISH["before_names"]:
        return False
    if word in ENGLISH["anywhere"] or _LETTERS_WITH_STOPS.fullmatch(word):
        return ends_sentence(text, match.end())
    # "2. The chapel yard": the number of a list, which begins its sentence.
    return not (
        word.isdigit() and len(word) < 3 and match.start() - len(word) == start + (start > 0)
    )


def _fit(sentence: str, limit: int) -> list[str]:
    parts, start = [], 0
    while len(sentence) - start > limit:
        # Parts of similar length sound better than a full one and a short rest.
        left = len(sentence) - start
        target = start + left / -(-left // limit)
        cut = start + limit
        for number, kind in enumerate(_CUTS):
            # A pause near the start of a part does not help; a space is better than cutting a word.
            least = start + (target - start) / 2 if number < 2 else start + 1
            ends = (m.end() for m in kind.finditer(sentence, start, cut + 1))
            near = [end for end in ends if least <= end <= cut]
            if near:
                cut = min(near, key=lambda end: abs(end - target))
                break
        parts.append(sentence[start:cut])
        start = cut + (sentence[cut] == " ")
    return [part.strip() for part in (*parts, sentence[start:])]
