"""Check and measure tacoskip on a GPU with one command.

    python benchmarks/gpu_check.py [--out FILE] [--stages a,b] [--budget SECONDS]

Stages run in processes of their own, in order of importance, each with a time limit; results are
appended to a JSON-lines file as they come, and a table stands at the end. `--device cpu --quick`
runs every stage in small on a machine without a GPU.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Stage: module, function, most seconds.
STAGES = {
    "environment": ("gpu_stages", "environment", 40),
    "compile": ("gpu_stages", "compile_kernels", 120),
    "kernel_tests": ("gpu_stages", "kernel_tests", 60),
    "agreement": ("gpu_stages", "agreement", 45),
    "gpu_tests": ("gpu_stages", "gpu_tests", 45),
    "steps": ("gpu_speed", "steps", 60),
    "profile": ("gpu_speed", "profile", 30),
    "recognizer": ("gpu_speed", "recognizer", 30),
    "loader": ("gpu_trainer", "loader", 30),
    "griffin_lim": ("gpu_speed", "griffin_lim", 20),
    "training": ("gpu_trainer", "training", 150),
    "resume": ("gpu_trainer", "resume", 100),
    "trainer": ("gpu_trainer", "trainer", 120),
}
QUICK = 300.0  # most seconds of a stage in small, on a busy machine


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check.jsonl")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes: does every stage run?")
    parser.add_argument("--stages", default=",".join(STAGES), help="by comma, in order")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds for all stages")
    parser.add_argument("--bundle", type=Path, default=ROOT / "build" / "gpu_bundle")
    parser.add_argument("--run-stage", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_stage(options: argparse.Namespace) -> int:
    """One stage, in this process."""
    from gpu_stages import Check

    module, function, _ = STAGES[options.run_stage]
    check = Check(
        options.device,
        options.quick,
        options.run_stage,
        options.out,
        options.bundle,
        options.seconds,
    )
    getattr(importlib.import_module(module), function)(check)
    return 0


def main() -> int:
    options = arguments()
    if options.run_stage:
        return run_stage(options)
    unknown = [name for name in options.stages.split(",") if name not in STAGES]
    if unknown:
        print(f"unknown stages {', '.join(unknown)}; known: {', '.join(STAGES)}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    first = len(read(options.out))
    began, failed = time.perf_counter(), False
    for name in options.stages.split(","):
        left = options.budget - (time.perf_counter() - began)
        seconds = QUICK if options.quick else min(STAGES[name][2], left)
        if seconds < 10:
            append(options.out, {"stage": name, "name": "stage", "skipped": "budget spent"})
            continue
        failed |= not start_stage(options, name, seconds)
    rows = read(options.out)[first:]
    table(rows)
    wrong = [row for row in rows if "error" in row or row.get("passed") is False]
    took = time.perf_counter() - began
    print(f"{len(rows)} rows in {options.out}, {len(wrong)} with an error, {took:.0f} s")
    return 1 if failed or wrong else 0


def start_stage(options: argparse.Namespace, name: str, seconds: float) -> bool:
    """Run a stage in a process of its own; note what ended it and how long it took."""
    call = [sys.executable, __file__, "--run-stage", name, "--seconds", str(seconds)]
    call += ["--device", options.device, "--out", str(options.out), "--bundle", str(options.bundle)]
    call += ["--quick"] if options.quick else []
    settings = dict(os.environ, PYTHONUNBUFFERED="1")
    if options.device == "cpu":
        settings |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    began, row = time.perf_counter(), dict[str, Any](stage=name, name="stage")
    print(f"== {name}, at most {seconds:.0f} s", flush=True)
    try:
        done = subprocess.run(
            call, env=settings, timeout=seconds, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            row["error"] = done.stderr[-1500:]
    except subprocess.TimeoutExpired as error:
        row["error"] = f"stopped after {seconds:.0f} s"
        if error.stderr:
            row["stderr"] = str(error.stderr)[-800:]
    row["seconds"] = round(time.perf_counter() - began, 1)
    append(options.out, row)
    if "error" in row:
        print(row["error"], file=sys.stderr, flush=True)
    return "error" not in row


def append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def table(rows: list[dict[str, Any]]) -> None:
    """Print results, a line a row."""
    print()
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("stage", "name")}
        cells = [f"{key} {shown(value)}" for key, value in figures.items()]
        print(f"{row['stage']:<13} {row['name']:<45} {', '.join(cells)}"[:220])


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("\n", " ")[-150:]


if __name__ == "__main__":
    sys.exit(main())
