"""ARPA files checked in full, because KenLM crashes on some files that are not language models."""

import math
from collections.abc import Iterator
from pathlib import Path

SPACE = "|"  # how lexicon, tokens and language models of characters write a space
MARKS = ("<s>", "</s>", "<unk>")
HIGHEST_ORDER = 6  # KenLM's
LONGEST_WORD = 1000

Lines = Iterator[tuple[int, str]]


def arpa_words(path: str | Path) -> list[str]:
    """Return the words of an ARPA file's unigrams, without the marks of start, end and unknown.

    Raises ValueError, in one line, unless the whole file follows the format: sections in order, as
    many n-grams in each as its header says, n words in each, logarithms up to 0.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            return _read(((number, line.rstrip("\r\n")) for number, line in enumerate(file, 1)))
    except FileNotFoundError:
        raise ValueError(f"no such language model: {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected an ARPA language model of text") from None
    except _NotArpa as error:
        raise ValueError(f"{path}: expected an ARPA language model, {error}") from None


class _NotArpa(Exception):
    """What is wrong, and in which line."""


def _read(lines: Lines) -> list[str]:
    counts, number, line = _header(lines)
    words: list[str] = []
    for order, count in enumerate(counts, 1):
        if line.strip() != f"\\{order}-grams:":
            raise _NotArpa(f"with \\{order}-grams: in line {number}, got {line[:60]!r}")
        for found in range(count + 1):
            number, line = _next(lines)
            if line.startswith("\\"):
                if found != count:
                    raise _NotArpa(f"with {count} {order}-grams, got {found}")
                break
            gram = _gram(line, order)
            if gram is None:
                raise _NotArpa(f"with a {order}-gram in line {number}, got {line[:60]!r}")
            if order == 1:
                words += gram
        else:
            raise _NotArpa(f"with {count} {order}-grams, got more")
    if line.strip() != "\\end\\":
        raise _NotArpa(f"with \\end\\ in line {number}, got {line[:60]!r}")
    return [word for word in words if word not in MARKS]


def _header(lines: Lines) -> tuple[list[int], int, str]:
    """Return the number of n-grams of each order, and the first line behind them."""
    if _next(lines)[1].strip() != "\\data\\":
        raise _NotArpa("found no \\data\\")
    counts: list[int] = []
    number, line = _next(lines)
    while line.startswith("ngram "):
        order, _, digits = line.removeprefix("ngram ").partition("=")
        digits = digits.strip()
        if order.strip() != str(len(counts) + 1) or not (digits.isascii() and digits.isdigit()):
            raise _NotArpa(f"got {line[:60]!r} in line {number}")
        counts.append(int(digits[:18]))
        number, line = _next(lines)
    if not 1 <= len(counts) <= HIGHEST_ORDER:
        raise _NotArpa(f"of an order from 1 to {HIGHEST_ORDER}, got {len(counts)}")
    return counts, number, line


def _next(lines: Lines) -> tuple[int, str]:
    """Return the next line that is not blank."""
    for number, line in lines:
        if line.strip():
            return number, line
    raise _NotArpa("got one that ends too soon")


def _gram(line: str, order: int) -> list[str] | None:
    """Return the words of a line `logarithm TAB words [TAB back-off]`, None for another line."""
    fields = line.split("\t")
    words = fields[1].split(" ") if 2 <= len(fields) <= 3 else []
    try:
        logs = [float(field) for field in (fields[0], *fields[2:])]
    except ValueError:
        return None
    valid = len(words) == order and all(
        0 < len(word) <= LONGEST_WORD and "\0" not in word for word in words
    )
    return words if valid and logs[0] <= 0 and all(map(math.isfinite, logs)) else None
