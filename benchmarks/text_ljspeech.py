"""How far the English normaliser agrees with LJSpeech's own normalised transcripts.

    python benchmarks/text_ljspeech.py .../metadata.csv [--differences] [--json]

The file holds lines of id|text|normalised text. Three shares of exact matches are printed:
`ljspeech` and `spoken` compare each style with the corpus' column as it stands; `same input`
compares what a voice hears, normalize(text) with normalize(column).
"""

import argparse
import difflib
import json
import time
from pathlib import Path

from tacoskip.text import normalize


def read_pairs(path: Path) -> list[tuple[str, str, str]]:
    """(id, text, normalised text) of every line; ValueError where a line has other columns."""
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        columns = line.split("|")
        if len(columns) != 3:
            raise ValueError(f"{path}, line {number}: expected 3 columns, got {len(columns)}")
        pairs.append((columns[0], columns[1], columns[2]))
    return pairs


def share(matches: list[bool], pairs: list[tuple[str, str, str]]) -> dict[str, float | int]:
    """Exact matches among all pairs, and among those whose column differs from the text."""
    changed = [m for m, (_, raw, column) in zip(matches, pairs, strict=True) if raw != column]
    return {
        "all": len(matches),
        "all_exact": sum(matches),
        "all_percent": round(100 * sum(matches) / len(matches), 2),
        "changed": len(changed),
        "changed_exact": sum(changed),
        "changed_percent": round(100 * sum(changed) / max(1, len(changed)), 2),
    }


def difference(column: str, ours: str) -> str:
    """The words in which two lines differ: theirs > ours."""
    a, b = column.split(" "), ours.split(" ")
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return "; ".join(
        f"{' '.join(a[i:j]) or '-'} > {' '.join(b[k:m]) or '-'}"
        for tag, i, j, k, m in matcher.get_opcodes()
        if tag != "equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("metadata", type=Path, help="LJSpeech's metadata.csv")
    parser.add_argument("--differences", action="store_true", help="list the lines that differ")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.metadata)

    normalize("1")  # the first number imports num2words
    start = time.perf_counter()
    spoken = [normalize(raw) for _, raw, _ in pairs]
    seconds = time.perf_counter() - start
    written = [normalize(raw, style="ljspeech") for _, raw, _ in pairs]
    shares = {
        "ljspeech": share([o == p[2] for o, p in zip(written, pairs, strict=True)], pairs),
        "spoken": share([o == p[2] for o, p in zip(spoken, pairs, strict=True)], pairs),
        "same input": share(
            [o == normalize(p[2]) for o, p in zip(spoken, pairs, strict=True)], pairs
        ),
    }
    if arguments.json:
        print(json.dumps({"seconds": round(seconds, 2), "shares": shares}))
        return
    print(f"{len(pairs)} transcripts in {seconds:.1f} s")
    for name, s in shares.items():
        print(
            f"{name:12} all {s['all_exact']}/{s['all']} = {s['all_percent']} %"
            f"   changed {s['changed_exact']}/{s['changed']} = {s['changed_percent']} %"
        )
    if arguments.differences:
        for (name, _, column), ours in zip(pairs, written, strict=True):
            if ours != column:
                print(f"{name}  {difference(column, ours)}")


if __name__ == "__main__":
    main()
