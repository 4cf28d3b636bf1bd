"""How far the English normaliser agrees with LJSpeech's own normalised transcripts.

    python benchmarks/text_ljspeech.py .../metadata.csv [--differences]

The file holds lines of id|text|normalised text. Three shares of exact matches are printed:
`ljspeech` and `spoken` compare each style with the corpus' column; `same input` compares what a
voice is given, normalize(text) with normalize(column).
"""

import argparse
import difflib
import time
from pathlib import Path

from timing import print_table

from tacoskip.text import normalize


def share(matches: list[bool]) -> str:
    count = sum(matches)
    return f"{count:,} of {len(matches):,} = {100 * count / max(1, len(matches)):.2f} %"


def difference(column: str, ours: str) -> str:
    """The words in which two lines differ: column > ours."""
    a, b = column.split(" "), ours.split(" ")
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return "; ".join(
        f"{' '.join(a[i:j]) or '-'} > {' '.join(b[k:m]) or '-'}"
        for tag, i, j, k, m in matcher.get_opcodes()
        if tag != "equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metadata", type=Path, help="LJSpeech's metadata.csv")
    parser.add_argument("--differences", action="store_true", help="list the lines that differ")
    options = parser.parse_args()
    lines = options.metadata.read_text(encoding="utf-8-sig").splitlines()
    names, texts, columns = zip(*(line.split("|") for line in lines), strict=True)

    normalize("1")  # the first number imports num2words
    start = time.perf_counter()
    spoken = [normalize(text) for text in texts]
    seconds = time.perf_counter() - start
    written = [normalize(text, style="ljspeech") for text in texts]
    print(f"{len(texts)} transcripts in {seconds:.1f} s")
    rows = []
    for name, ours, expected in (
        ("ljspeech", written, columns),
        ("spoken", spoken, columns),
        ("same input", spoken, [normalize(column) for column in columns]),
    ):
        matches = [a == b for a, b in zip(ours, expected, strict=True)]
        changed = [m for m, a, b in zip(matches, texts, columns, strict=True) if a != b]
        rows.append({"": name, "all": share(matches), "column differs from text": share(changed)})
    print_table(rows)
    if options.differences:
        for name, column, ours in zip(names, columns, written, strict=True):
            if ours != column:
                print(f"{name}  {difference(column, ours)}")


if __name__ == "__main__":
    main()
