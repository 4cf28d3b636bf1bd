"""Transcription of long recordings: memory by length, and speed.

    python benchmarks/long_recording.py RUN CLIPS [--minutes 6 60]

CLIPS is a folder of wavs of one rate, which are joined, with short pauses, into recordings of so
many minutes. Each is transcribed in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from timing import print_table


def join(clips: list[Path], minutes: float, path: Path) -> int:
    """Write clips in random order, 0 to 0.5 s apart, until the minutes are full; return how many
    clips were written.
    """
    rng, rate = np.random.default_rng(0), soundfile.info(clips[0]).samplerate
    written, count = 0, 0
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        while written < round(minutes * 60 * rate):
            wave, _ = soundfile.read(clips[rng.integers(len(clips))], dtype="float32")
            pause = 1e-4 * rng.standard_normal(int(rng.uniform(0, 0.5) * rate))
            for part in (wave, pause):
                file.write(part)
                written += len(part)
            count += 1
    return count


def transcribe(run: str, path: str) -> None:
    """Transcribe one file; print seconds of audio, CPU and wall seconds, peak MB, words."""
    import tacoskip

    recognizer = tacoskip.load(run)
    recognizer.transcribe(np.zeros(recognizer.sample_rate, np.float32))
    cpu, wall = time.process_time(), time.perf_counter()
    transcript = recognizer.transcribe(path)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(transcript.seconds, cpu, wall, peak, len(transcript.words))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("clips", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[6.0, 60.0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        transcribe(options.run, options.one)
        return
    clips, rows = sorted(options.clips.glob("*.wav")), []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in sorted(options.minutes):
            path = Path(folder) / f"{minutes:g}.wav"
            count = join(clips, minutes, path)
            command = [sys.executable, __file__, options.run, str(options.clips), "--one"]
            done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
            seconds, cpu, wall, peak, words = map(float, done.stdout.split())
            row = {"minutes": seconds / 60, "peak MB": peak, "CPU s": cpu, "wall s": wall}
            row |= {"x real time, CPU": seconds / cpu, "x real time, wall": seconds / wall}
            rows.append(row | {"words": int(words), "clips": count})
    print_table(rows)


if __name__ == "__main__":
    main()
