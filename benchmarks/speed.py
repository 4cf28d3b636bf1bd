"""Every claim of speed, one script after another, as one table against the best peer.

    python benchmarks/speed.py [--only training,cbhg] [--wavs LJSpeech-1.1/wavs] [--save speed.json]

The scripts run apart, each in a process of its own, on as many threads as OMP_NUM_THREADS says (all
cores by default). A script that fails is named and the others go on. Peers that are not installed
are named with the line that installs them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = (
    *("training", "cbhg", "decoder", "griffin_lim"),
    *("features", "synthesis", "recognition", "startup"),
)
WITH_WAVS = ("griffin_lim", "features", "recognition")


def measured(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Run a script; None, and why on standard error, when it fails."""
    command = [sys.executable, str(Path(__file__).with_name(f"speed_{name}.py")), "--json"]
    command += ["--quick"] if options.quick else []
    command += ["--rounds", str(options.rounds)] if options.rounds else []
    command += ["--clock", options.clock]
    command += ["--wavs", str(options.wavs)] if options.wavs and name in WITH_WAVS else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "no reason given").splitlines()[-1]
        print(f"failed: {Path(command[1]).name}: {why}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def lines(race: dict[str, Any]) -> list[str]:
    """A row for each contestant of tacoskip's, beside the fastest peer."""
    peers = [row for row in race["rows"] if row["peer"]]
    best = min(peers, key=lambda row: row["seconds"]) if peers else None
    found = []
    for row in race["rows"]:
        if row["peer"]:
            continue
        share, figures = row["share_of_peak"], row["figures"]
        cells = [
            race["claim"],
            row["name"],
            f"{1000 * row['seconds']:.4g} ms",
            f"{row['rate']:,.0f} {race['unit']}/s" if row["rate"] >= 10 else f"{row['rate']:.2f}",
            f"{best['name']}, {1000 * best['seconds']:.4g} ms" if best else "",
            f"{row['times_best_peer']:.2f}" if best else "",
            "" if share is None else f"{100 * share:.0f} %",
            ", ".join(f"{name} {value:.3g}" for name, value in figures.items()),
        ]
        found.append(f"| {' | '.join(cells)} |")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default=",".join(SCRIPTS), help="claims, by comma")
    parser.add_argument("--rounds", type=int, default=0, help="how often each one runs")
    parser.add_argument("--wavs", type=Path, help="a folder of recordings")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see the scripts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: do the scripts work?")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--save", type=Path, help="write the JSON here, beside the table")
    options = parser.parse_args()
    chosen = options.only.split(",")
    unknown = set(chosen) - set(SCRIPTS)
    if unknown:
        print(f"expected {', '.join(SCRIPTS)}, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    results, absent, failed = {}, dict[str, str](), 0
    for number, name in enumerate(chosen):
        result = measured(name, options)
        if result is None:
            failed += 1
            continue
        results[name] = result
        absent |= result["absent"]
        if options.json:
            continue
        if not number:
            about = result["machine"]
            print(
                f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
                f"{about['date']}\n\n| work | | time | rate | best peer | x best peer | of peak | |"
                f"\n|{'---|' * 8}"
            )
        for race in result["races"]:
            print("\n".join(lines(race)), flush=True)
    whole = json.dumps({"results": results, "absent": absent})
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(whole + "\n", encoding="utf-8")
    if options.json:
        print(whole)
    for name, line in absent.items():
        print(f"not measured: {name} ({line})", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
