"""Make the folder that a GPU machine without network needs for gpu_check.py.

    python benchmarks/gpu_bundle.py --corpus FOLDER [--out build/gpu_bundle]

Wheels for Python 3.12 on Linux of what an image with torch 2.11 usually lacks, tacoskip's own wheel
and source, and a prepared corpus (a folder with metadata.csv, such as CMU ARCTIC's slt). On the
other machine:

    python3 -m pip install -q --no-index --no-deps --target /tmp/site BUNDLE/wheels/*.whl
    mkdir -p /tmp/source && tar xzf BUNDLE/source.tar.gz -C /tmp/source && cd /tmp/source
    PYTHONPATH=/tmp/source:/tmp/site python3 benchmarks/gpu_check.py --bundle BUNDLE --out FILE
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    *("pyyaml", "jiwer", "rapidfuzz", "fsspec", "audioread"),
    *("soundfile", "cffi", "pycparser", "librosa", "soxr", "anyascii", "num2words"),
    *("decorator", "pooch", "msgpack", "platformdirs", "packaging", "lazy-loader", "joblib"),
]
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]
SOURCE = ["tacoskip", "benchmarks", "tests", "recipes", "data/demo_text", "pyproject.toml"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="folder to prepare; without it, no corpus")
    parser.add_argument("--clips", type=int, default=800, help="at most so many clips")
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_bundle")
    options = parser.parse_args()
    wheels = options.out.resolve() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    platforms = [f"--platform={name}" for name in PLATFORMS]
    run(
        *[*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.12"],
        *["--implementation=cp", *platforms, "-d", str(wheels), "-c", "constraints.txt", *PACKAGES],
    )
    run(*[*pip, "wheel", "-q", "--no-deps", "-w", str(wheels), str(ROOT)])
    run(
        "tar", "czf", str(options.out.resolve() / "source.tar.gz"), "--exclude=__pycache__", *SOURCE
    )
    if options.corpus:
        prepare(options.corpus.resolve(), options)
    files = [path for path in options.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    print(f"{options.out}: {len(files)} files, {size:.1f} MiB")
    return 0 if size <= 60 else 1


def prepare(corpus: Path, options: argparse.Namespace) -> None:
    """Prepare the corpus with tacoskip itself; its paths are relative."""
    folder = options.out.resolve() / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    run(
        *[sys.executable, "-m", "tacoskip.cli", "prepare", "recipe=base/tts"],
        *["data.corpus=folder", f"data.root={corpus}", f"data.dir={folder}"],
        *[f"data.limit={options.clips}", f"audio.sample_rate={options.sample_rate}"],
    )


def run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
