"""A long recording written down: does memory grow with its length, and how fast is it?

    python benchmarks/long_recording.py RUN CLIPS [--minutes 6 60]

CLIPS is a folder of wavs of one rate, which are joined, with short pauses, into recordings of so
many minutes. Each is transcribed in a process of its own. Prints peak memory, processor seconds and
how many times faster than real time that is; the last line compares the longest with the shortest.
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


def join(clips: list[Path], minutes: float, path: Path) -> int:
    """Write clips in random order, 0 to 0.5 s apart, until the minutes are full; returns their
    number.
    """
    rng, rate = np.random.default_rng(0), soundfile.info(clips[0]).samplerate
    wanted, written, count = round(minutes * 60 * rate), 0, 0
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        while written < wanted:
            wave, _ = soundfile.read(clips[rng.integers(len(clips))], dtype="float32")
            pause = 1e-4 * rng.standard_normal(int(rng.uniform(0, 0.5) * rate))
            for piece in (wave, pause):
                file.write(piece)
                written += len(piece)
            count += 1
    return count


def hear(run: str, path: str) -> None:
    """Transcribe one file; prints seconds, processor seconds, peak MB, words."""
    import tacoskip

    recognizer = tacoskip.load(run)
    recognizer.transcribe(np.zeros(recognizer.sample_rate, np.float32))
    began, wall = time.process_time(), time.perf_counter()
    heard = recognizer.transcribe(path)
    spent, passed = time.process_time() - began, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(heard.seconds, spent, passed, peak, len(heard.words))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("clips", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[6.0, 60.0])
    parser.add_argument("--hear", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hear:
        hear(arguments.run, arguments.hear)
        return
    clips = sorted(arguments.clips.glob("*.wav"))
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in sorted(arguments.minutes):
            path = Path(folder) / f"{minutes:g}.wav"
            words = join(clips, minutes, path)
            command = [sys.executable, __file__, arguments.run, str(arguments.clips)]
            done = subprocess.run(
                [*command, "--hear", str(path)], capture_output=True, text=True, check=True
            )
            seconds, spent, passed, peak, heard = map(float, done.stdout.split())
            peaks.append(peak)
            print(
                f"{seconds / 60:6.1f} minutes: peak {peak:.0f} MB, {spent:.1f} processor seconds "
                f"({seconds / spent:.0f} times real time), {passed:.1f} s by the clock "
                f"({seconds / passed:.0f} times), {heard:.0f} words heard of {words} clips",
                flush=True,
            )
    print(f"memory, longest over shortest: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
