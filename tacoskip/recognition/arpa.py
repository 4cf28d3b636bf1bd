"""ARPA files checked in full, because KenLM crashes on some files that are not language models."""

import math
import re
from collections.abc import Iterable
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from tacoskip.files import open_regular

SPACE = "|"  # how lexicon, tokens and language models of characters write a space
MARKS = ("<s>", "</s>", "<unk>")
HIGHEST_ORDER = 6  # KenLM's
LONGEST_WORD = 1000
LONGEST_LINE = 10_000
ARPA_BYTES = 20_000_000_000


def arpa_words(path: str | Path) -> list[str]:
    """Return the words of an ARPA file's unigrams, without the marks of start, end and unknown.

    Raises ValueError, in one line, unless the whole file follows the format: sections in order, as
    many n-grams in each as its header says, n words in each, logarithms up to 0.
    """
    with TextIOWrapper(open_regular(path, ARPA_BYTES), "utf-8", newline="\n") as file:
        try:
            words = _read(iter(partial(file.readline, LONGEST_LINE), ""))
            rest = file.read(100)
            if rest.strip() or len(rest) == 100:  # KenLM takes memory for it
                raise ValueError("got more behind its end")
            return words
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected an ARPA language model of text") from None
        except ValueError as error:
            raise ValueError(f"{path}: expected an ARPA language model, {error}") from None


def _read(lines: Iterable[str]) -> list[str]:
    counts, words = list[int](), list[str]()
    order, missing = -1, 0  # of the section: -1 before the header, 0 in it; n-grams it lacks
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if order == 0 and (found := re.fullmatch(r"ngram +(\d) *= *([0-9]{1,15})", text)):
            counts.append(int(found[2]))
            valid = int(found[1]) == len(counts) <= HIGHEST_ORDER
        elif missing:
            gram = _gram(line.rstrip("\r\n"), order)
            words += gram if order == 1 else []
            missing, valid = missing - 1, bool(gram)
        elif order == len(counts) > 0 and text == "\\end\\":
            return [word for word in words if word not in MARKS]
        else:
            order += 1
            valid = text == (f"\\{order}-grams:" if order else "\\data\\") and order <= len(counts)
            missing = counts[order - 1] if valid and order else 0
        if not valid:
            raise ValueError(f"got {line.rstrip()[:60]!r} in line {number}")
    raise ValueError("got one that ends too soon")


def _gram(line: str, order: int) -> list[str]:
    """Return the words of a line `logarithm TAB words [TAB back-off]`, none for another line."""
    fields = line.split("\t")
    words = fields[1].split(" ") if 2 <= len(fields) <= 3 else []
    try:
        logs = [float(field) for field in (fields[0], *fields[2:])]
    except ValueError:
        return []
    valid = len(words) == order and all(
        0 < len(word) <= LONGEST_WORD and "\0" not in word for word in words
    )
    return words if valid and logs[0] <= 0 and all(map(math.isfinite, logs)) else []
