"""How `prepare` fares with a day of speech: hours of audio a minute, memory as it goes on, and what
is left when it is killed half-way and run again.

    python benchmarks/preparing.py ROOT [--recipe ljspeech] [--room FOLDER] [--json]

ROOT is a corpus in the recipe's layout (data.root). It is prepared twice, once undisturbed, once
killed (SIGKILL) when half the clips are done, and the manifests are compared byte for byte. Memory
is the resident size of the process and all it has started, five times a second. The exit code is 1
where a clip was done twice or a manifest differs.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from timing import machine

SPLITS = ("train", "validation", "test")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


def tree(root: int) -> list[int]:
    """Return a process and all it has started, and they."""
    found = [root]
    for process in found:
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended meanwhile
            continue
    return found


def resident_mb(processes: list[int]) -> float:
    pages = 0
    for process in processes:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * resource.getpagesize() / 1e6


class Watch(threading.Thread):
    """Notes memory and clips done of a running `prepare`; kills it at `kill_at` clips."""

    def __init__(self, process: "subprocess.Popen[str]", journal: Path, kill_at: int = 0) -> None:
        super().__init__(daemon=True)
        self.process, self.journal, self.kill_at = process, journal, kill_at
        self.points: list[tuple[float, int, float]] = []  # seconds, clips, MB
        self._read, self._lines = 0, 0

    def run(self) -> None:
        began = time.perf_counter()
        while self.process.poll() is None:
            done = self._done()
            memory = resident_mb(tree(self.process.pid))
            self.points.append((time.perf_counter() - began, done, memory))
            if 0 < self.kill_at <= done:
                os.kill(self.process.pid, signal.SIGKILL)
                return
            time.sleep(0.2)

    def _done(self) -> int:
        if self.journal.exists() and self.journal.stat().st_size > self._read:
            with self.journal.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._lines += new.count(b"\n")
        return self._lines


def prepare(options: argparse.Namespace, folder: Path, kill_at: int = 0) -> dict[str, Any]:
    """Run the command; what it printed, its seconds by the clock and of work, its memory."""
    pairs = [f"recipe={options.recipe}", f"data.root={options.root}", f"data.dir={folder}"]
    command = [sys.executable, "-m", "tacoskip.cli", "prepare", *pairs, *options.set, "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = Watch(process, folder / "clips.jsonl", kill_at)
    watch.start()
    said, complaint = process.communicate()
    watch.join()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode not in (0, -signal.SIGKILL if kill_at else 0):
        raise SystemExit(f"{' '.join(command)}: {complaint.strip().splitlines()[-1]}")
    return {
        "result": json.loads(said) if process.returncode == 0 else None,
        "seconds": seconds,
        "work_seconds": sum(
            getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime")
        ),
        "points": watch.points,
    }


def memory(points: list[tuple[float, int, float]]) -> dict[str, float]:
    """Return the peak until each share of the clips was done, and of what came after the last."""
    clips = max(done for _, done, _ in points)
    found = {
        f"{share:.0%}": max(mb for _, done, mb in points if done <= share * clips)
        for share in SHARES[:-1]
    }
    working = [mb for _, done, mb in points if done < clips]
    return found | {"100%": max(working), "whole": max(mb for _, _, mb in points)}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the files of clips by name: which file it is, and of when."""
    found = ((file.name, file.stat()) for file in (folder / "audio").glob("*.flac"))
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found}


def journalled(folder: Path) -> set[str]:
    lines = (folder / "clips.jsonl").read_bytes().split(b"\n")[:-1]
    return {Path(json.loads(line)["file"]).name for line in lines}


def measure(options: argparse.Namespace, room: Path) -> dict[str, Any]:
    whole = prepare(options, room / "whole")
    kept = whole["result"]["kept"]
    clips = kept + sum(whole["result"]["dropped"].values())
    killed = prepare(options, room / "killed", clips // 2)
    known, files = journalled(room / "killed"), state(room / "killed")
    again = prepare(options, room / "killed")
    after = state(room / "killed")
    twice = sum(name in files and after.get(name) != files[name] for name in known)
    differ = [
        split
        for split in SPLITS
        if (room / "whole" / f"{split}.jsonl.gz").read_bytes()
        != (room / "killed" / f"{split}.jsonl.gz").read_bytes()
    ]
    hours = whole["result"]["seconds"] / 3600
    sizes = {
        "clips": sum(file.stat().st_size for file in (room / "whole" / "audio").iterdir()),
        "manifests": sum((room / "whole" / f"{split}.jsonl.gz").stat().st_size for split in SPLITS),
        "journal": (room / "whole" / "clips.jsonl").stat().st_size,
        "report": (room / "whole" / "report.json").stat().st_size,
    }
    return {
        "hours": hours,
        "clips": clips,
        "kept": kept,
        "seconds": whole["seconds"],
        "work_seconds": whole["work_seconds"],
        "hours_a_minute": hours / whole["seconds"] * 60,
        "hours_a_minute_of_one_core": hours / whole["work_seconds"] * 60,
        "halves": halves(whole["points"]),
        "memory_mb": memory(whole["points"]),
        "bytes_an_hour": {name: size / hours for name, size in sizes.items()},
        "killed_at": len(known),
        "done_twice": twice,
        "again_seconds": again["seconds"],
        "seconds_until_killed": killed["seconds"],
        "manifests_that_differ": differ,
    }


def halves(points: list[tuple[float, int, float]]) -> float:
    """Return how long the second half of the clips took, of the first 1: linear is 1."""
    clips = max(done for _, done, _ in points)
    start = min(second for second, done, _ in points if done > 0)
    middle = min(second for second, done, _ in points if done >= clips / 2)
    end = min(second for second, done, _ in points if done >= clips)
    return (end - middle) / max(middle - start, 1e-9)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", help="a corpus in the recipe's layout")
    parser.add_argument("--recipe", default="ljspeech")
    parser.add_argument("--set", action="append", default=[], help="a setting, key=value")
    parser.add_argument("--room", type=Path, help="an empty folder that stays; else none is left")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        about = machine()
        found = measure(options, options.room or Path(temporary))
    if options.json:
        print(json.dumps({"machine": about, **found}))
    else:
        _print(about, found)
    return 1 if found["done_twice"] or found["manifests_that_differ"] else 0


def _print(about: dict[str, Any], found: dict[str, Any]) -> None:
    print(f"{about['processor']}, {about['cores']} cores, {about['date']}, load {about['load']}")
    print(
        f"{found['hours']:.2f} h in {found['clips']:,} clips, {found['kept']:,} kept: "
        f"{found['seconds']:.0f} s, {found['work_seconds']:.0f} s of work; "
        f"{found['hours_a_minute']:.2f} hours of audio a minute, "
        f"{found['hours_a_minute_of_one_core']:.2f} a minute of one core; the second half took "
        f"{found['halves']:.2f} of the first"
    )
    print("| peak memory until | " + " | ".join(found["memory_mb"]) + " |")
    print(f"|{'---|' * (len(found['memory_mb']) + 1)}")
    print("| MB | " + " | ".join(f"{mb:.0f}" for mb in found["memory_mb"].values()) + " |")
    sizes = (f"{name} {size / 1e6:.2f} MB" for name, size in found["bytes_an_hour"].items())
    print(f"an hour of audio: {', '.join(sizes)}")
    same = ", ".join(found["manifests_that_differ"]) or "none"
    print(
        f"killed with {found['killed_at']:,} clips done, {found['seconds_until_killed']:.0f} s; "
        f"again {found['again_seconds']:.0f} s; done twice: {found['done_twice']}; "
        f"manifests that differ: {same}"
    )


if __name__ == "__main__":
    sys.exit(main())
