"""All speed comparisons, one script after another.

    python benchmarks/speed.py [--only training,audio] [--wavs LJSpeech-1.1/wavs] [--save FILE]

Each script runs in a process of its own, on as many threads as OMP_NUM_THREADS says (all cores by
default). A script that fails is named and the others run. Peers that are not installed are named
with the line that installs them.
"""

import subprocess
import sys
from pathlib import Path

from timing import parser

SCRIPTS = ("training", "synthesis", "audio", "recognition", "startup")


def main() -> int:
    options = parser(__doc__, rounds=0, only=",".join(SCRIPTS)).parse_args()
    chosen = options.only.split(",")
    unknown = sorted(set(chosen) - set(SCRIPTS))
    if unknown:
        print(f"expected {', '.join(SCRIPTS)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    passed = ["--clock", options.clock, *(["--quick"] if options.quick else [])]
    for name in ("rounds", "wavs", "save"):
        value = getattr(options, name)
        passed += [f"--{name}", str(value)] if value else []
    if options.save:
        options.save.unlink(missing_ok=True)
    failed = 0
    for name in chosen:
        script = Path(__file__).with_name(f"speed_{name}.py")
        print(f"\n## {script.name}\n", flush=True)
        if subprocess.run([sys.executable, str(script), *passed], check=False).returncode:
            print(f"failed: {script.name}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
