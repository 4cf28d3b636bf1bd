"""N-gram language models from text: interpolated modified Kneser-Ney, written as ARPA.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1998. With
h' the context h without its first word, c the count (for the highest order, or after <s>) or the
number of words seen before it, and D one of three discounts by c:

    p(w | h) = (c(h w) - D(c(h w))) / c(h .) + gamma(h) p(w | h')

The unigrams back off to the uniform distribution over all words and `<unk>`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tacoskip.files import decode_text, read_bounded, whole_file
from tacoskip.recognition.arpa import SPACE
from tacoskip.text.letters import plain_words

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
TEXT_BYTES = 1_000_000_000
# For texts too small to estimate discounts from the counts of counts.
FALLBACK = (0.5, 1.0, 1.5)

Gram = tuple[str, ...]


class NGram:
    """A model of `order`: `log10` of probability and of back-off weight by n-gram."""

    def __init__(self, sentences: Iterable[Iterable[str]], order: int) -> None:
        if order < 1:
            raise ValueError(f"expected an order of at least 1, got {order}")
        counts = _counts(sentences, order)
        counts[0].pop((START,), None)  # never predicted
        if len(counts[0]) < 2:
            raise ValueError("expected a text with words, got none")
        self.probability: list[dict[Gram, float]] = []
        self.backoff: dict[Gram, float] = {}
        below: dict[Gram, float] = {}
        uniform = 1 / (len(counts[0]) + 1)
        for n, grams in enumerate(counts, 1):
            discounts = _discounts(grams)
            total: defaultdict[Gram, int] = defaultdict(int)
            taken: defaultdict[Gram, float] = defaultdict(float)
            for gram, count in grams.items():
                total[gram[:-1]] += count
                taken[gram[:-1]] += discounts[min(count, 3)]
            level: dict[Gram, float] = {}
            for gram, count in grams.items():
                context = gram[:-1]
                lower = below[gram[1:]] if n > 1 else uniform
                kept = (count - discounts[min(count, 3)]) / total[context]
                level[gram] = kept + taken[context] / total[context] * lower
            if n == 1:
                level[(UNKNOWN,)] = taken[()] / total[()] * uniform
            else:
                self.backoff |= {h: taken[h] / total[h] for h in total}
            self.probability.append(level)
            below = level

    def write(self, path: str | Path) -> None:
        """Write the model as an ARPA file, whole or not at all."""
        levels = [dict(level) for level in self.probability]
        levels[0][(START,)] = 0.0
        with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
            sizes = [f"ngram {n}={len(level)}\n" for n, level in enumerate(levels, 1)]
            file.write("".join(["\\data\\\n", *sizes]))
            for n, level in enumerate(levels, 1):
                file.write(f"\n\\{n}-grams:\n")
                for gram in sorted(level):
                    chance = level[gram]
                    log = math.log10(chance) if chance > 0 else -99.0
                    line = f"{log:.6f}\t{' '.join(gram)}"
                    if gram in self.backoff:
                        line += f"\t{math.log10(max(self.backoff[gram], 1e-30)):.6f}"
                    file.write(line + "\n")
            file.write("\n\\end\\\n")


def train_file(
    texts: Iterable[str | Path], out: str | Path, order: int, characters: bool = False
) -> dict[str, Any]:
    """Train on text files, a sentence a line, and write `out`; returns what it holds.

    characters: model characters, a space written as "|". Raises OSError for files that cannot be
    read or written, ValueError for files without words or not in UTF-8.
    """
    sentences = [words for path in texts for words in _sentences(Path(path), characters)]
    model = NGram(sentences, order)
    model.write(out)
    counts = [len(level) for level in model.probability]
    return {"lm": str(out), "order": order, "sentences": len(sentences), "ngrams": counts}


def _sentences(path: Path, characters: bool) -> Iterator[list[str]]:
    with path.open("rb") as file:
        text = decode_text(read_bounded(file, path, TEXT_BYTES), path)
    for line in text.splitlines():
        words = plain_words(line)
        if words:
            yield list(words.replace(" ", SPACE)) if characters else words.split()


def _counts(sentences: Iterable[Iterable[str]], order: int) -> list[Counter[Gram]]:
    """Raw counts of the highest order; below it, the number of words before each n-gram."""
    raw: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = (START, *sentence, END)
        for n in range(1, order + 1):
            raw[n - 1].update(words[i : i + n] for i in range(len(words) - n + 1))
    counts = list(raw)
    for n in range(order - 1, 0, -1):
        before: Counter[Gram] = Counter(gram[1:] for gram in raw[n])
        # Nothing stands before <s>: n-grams that begin with it keep their raw counts.
        before.update({g: c for g, c in raw[n - 1].items() if g[0] == START})
        counts[n - 1] = before
    return counts


def _discounts(counts: Counter[Gram]) -> tuple[float, float, float, float]:
    """The discounts of counts 0, 1, 2 and 3 or more."""
    n = Counter(min(count, 5) for count in counts.values())
    if all(n[k] for k in (1, 2, 3, 4)):
        y = n[1] / (n[1] + 2 * n[2])
        one, two, three = (k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        if 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3:
            return 0.0, one, two, three
    return 0.0, *FALLBACK
