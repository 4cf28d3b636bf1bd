"""Does a voice trained on the Free Spoken Digit Dataset say the digits it is told to?

    python benchmarks/fsdd_judge.py train --root data/fsdd --out runs/fsdd_judge
    python benchmarks/fsdd_judge.py judge runs/fsdd --root data/fsdd --judge runs/fsdd_judge

`train` teaches a judge with real takes 5 to 44 and scores it on takes 0 to 4. `judge` lets a voice
say every digit and random strings, and sets what the judge hears beside the same judge's score on
real takes and on real takes that went through the voice's front end and Griffin-Lim and back.
docs/evaluation.md says what each figure means.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fsdd_judge_model import SAMPLE_RATE, Judge, Wave
from fsdd_judge_train import Clip, join, random_string, read_clips, train_judge

from tacoskip.audio import AudioSettings, FrontEnd, GriffinLimSettings
from tacoskip.evaluation.error_rates import word_errors
from tacoskip.evaluation.metrics import alignment_warnings
from tacoskip.synthesis.voice import Voice, load

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHOWN = 12  # slips of a kind in the printed table


def interval(right: float, n: int) -> list[float]:
    """Return Wilson's 95 % interval of a share (JASA 22, 1927)."""
    z, share = 1.96, right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [float(centre - half), float(centre + half)]


def score_digits(
    judge: Judge, waves: list[tuple[str, int, Wave]], rate: int, repeats: int = 1
) -> dict[str, Any]:
    """Score single digits, given as (voice, digit, wave): accuracy, per voice, confusions.

    repeats: times each was said. A voice's seed moves only the phase that Griffin-Lim starts from,
    so repeats are no new evidence, and the interval counts each digit of each voice once.
    """
    heard = [(voice, digit, judge.digit(wave, rate)) for voice, digit, wave in waves]
    right = Counter(voice for voice, digit, found in heard if found == digit)
    of = Counter(voice for voice, _, _ in heard)
    confused = Counter((v, digit, found) for v, digit, found in heard if found != digit)
    return {
        "n": len(heard),
        "accuracy": right.total() / len(heard),
        "interval": interval(right.total() / repeats, len(heard) // repeats),
        "per_voice": {voice: right[voice] / of[voice] for voice in of},
        "confusions": [
            f"{WORDS[digit]} heard as {WORDS[found]} ({voice}) x{count}"
            for (voice, digit, found), count in confused.most_common()
        ],
    }


def _words(digits: list[int]) -> str:
    return " ".join(map(str, digits))


def score_strings(
    judge: Judge, waves: list[tuple[str, list[int], Wave]], rate: int
) -> dict[str, Any]:
    """Score strings, given as (voice, digits, wave): 1 - edits / digits, share without a slip."""
    heard = [(voice, said, judge.string(wave, rate)) for voice, said, wave in waves]
    wrong, of = Counter[str](), Counter[str]()
    for voice, said, found in heard:
        wrong[voice] += word_errors(_words(said), _words(found)).total
        of[voice] += len(said)
    return {
        "n": len(heard),
        "digits": of.total(),
        "edits": wrong.total(),
        "accuracy": 1 - wrong.total() / of.total(),
        "whole": sum(said == found for _, said, found in heard) / len(heard),
        "per_voice": {voice: 1 - wrong[voice] / of[voice] for voice in of},
        "misheard": [
            f"{voice}: {''.join(map(str, said))} heard as {''.join(map(str, found))}"
            for voice, said, found in heard
            if said != found
        ],
    }


def copy_synthesis(
    clips: list[Clip], front_end: FrontEnd, inversion: GriffinLimSettings
) -> list[Clip]:
    """Send clips through features and Griffin-Lim, as the voice's output goes, at 8 kHz."""
    copies = []
    for clip in clips:
        linear, _ = front_end.features(torch.from_numpy(clip.wave).float())
        wave = front_end.to_wave(linear[None], settings=inversion)[0].numpy()
        copies.append(Clip(clip.digit, clip.speaker, clip.take, wave))
    return copies


def score_clips(judge: Judge, clips: list[Clip], strings: int, seed: int) -> dict[str, Any]:
    """Score held-out takes one by one and joined to random strings of one speaker."""
    rng = np.random.default_rng(seed)
    chosen = [random_string(clips, rng) for _ in range(strings)]
    return {
        "single": score_digits(judge, [(c.speaker, c.digit, c.wave) for c in clips], SAMPLE_RATE),
        "strings": score_strings(
            judge, [(s[0].speaker, [c.digit for c in s], join(s, rng)) for s in chosen], SAMPLE_RATE
        ),
    }


def score_voice(
    judge: Judge, voice: Voice, seeds: int, strings: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Let every speaker of a voice say each digit `seeds` times and `strings` strings of 3 to 9."""
    rng = np.random.default_rng(seed)
    singles, longs, speeches = [], [], []
    work, sound = time.perf_counter(), 0.0
    for name in voice.speakers:
        for repeat in range(seeds):
            said = voice.synthesize(list(WORDS), speaker=name, seed=seed + repeat)
            singles += [(name, digit, speech.wave) for digit, speech in enumerate(said)]
            sound += sum(speech.seconds for speech in said)
        wanted = [rng.integers(10, size=rng.integers(3, 10)).tolist() for _ in range(strings)]
        texts = [" ".join(WORDS[digit] for digit in digits) for digits in wanted]
        said = voice.synthesize(texts, speaker=name, seed=seed)
        longs += [(name, d, speech.wave) for d, speech in zip(wanted, said, strict=True)]
        speeches += said
        sound += sum(speech.seconds for speech in said)
    work = time.perf_counter() - work
    broken = [(s.text, alignment_warnings(s.alignment, stopped=True)) for s in speeches]
    found = score_strings(judge, longs, voice.sample_rate)
    found["stopped"] = sum(speech.stopped for speech in speeches) / len(speeches)
    found["clean_alignment"] = sum(not warnings for _, warnings in broken) / len(broken)
    found["warnings"] = [f"{text}: {'; '.join(w)}" for text, w in broken if w]
    return {
        "single": score_digits(judge, singles, voice.sample_rate, seeds),
        "strings": found,
        "speed": {"seconds_of_speech": sound, "rtf": work / sound},
    }


def show(rows: dict[str, dict[str, Any]]) -> str:
    """Return a table of a few lines: a row for each source of speech."""
    lines = [f"{'':16}{'single digits':>26}{'strings: digits':>24}{'whole':>8}"]
    for name, row in rows.items():
        single, long = row["single"], row["strings"]
        low, high = single["interval"]
        lines.append(
            f"{name:16}{single['accuracy']:>8.2%} ({low:.1%}-{high:.1%})"
            f"{long['accuracy']:>12.2%} of {long['digits']:>5}{long['whole']:>10.1%}"
        )
    return "\n".join(lines)


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    clips, held_out = read_clips(arguments.root)
    steps = (arguments.classifier_steps, arguments.recognizer_steps)
    judge = train_judge(clips, steps, arguments.seed, lambda line: print(line, file=sys.stderr))
    seconds = time.perf_counter() - started
    front_end = FrontEnd(AudioSettings(sample_rate=SAMPLE_RATE, n_mels=60))
    copies = copy_synthesis(held_out, front_end, GriffinLimSettings(30, sharpening=1.0))
    judge.facts = {
        "real": score_clips(judge, held_out, arguments.strings, arguments.seed),
        "copy_synthesis": score_clips(judge, copies, arguments.strings, arguments.seed),
    }
    path = judge.save(arguments.out)
    print(f"{path}: trained on {len(clips)} real takes in {seconds:.0f} s", file=sys.stderr)
    return judge.facts


def judge(arguments: argparse.Namespace) -> dict[str, Any]:
    judge = Judge.load(arguments.judge)
    voice = load(arguments.run)
    held_out = [c for c in read_clips(arguments.root)[1] if c.speaker in voice.speakers]
    if not held_out:
        raise ValueError(f"expected a voice with FSDD's speakers, got {', '.join(voice.speakers)}")
    copies = copy_synthesis(held_out, voice.front_end, voice.config.griffin_lim)
    strings = arguments.strings * len(voice.speakers)
    return {
        "voice": score_voice(judge, voice, arguments.seeds, arguments.strings, arguments.seed),
        "real": score_clips(judge, held_out, strings, arguments.seed),
        "copy_synthesis": score_clips(judge, copies, strings, arguments.seed),
    }


def show_voice(found: dict[str, Any]) -> str:
    """Return what only a voice has: per speaker, endings, alignment, its slips."""
    single, long = found["single"], found["strings"]
    lines = [f"{'voice':16}{'single':>10}{'strings':>10}"]
    for name, accuracy in single["per_voice"].items():
        lines.append(f"{name:16}{accuracy:>10.1%}{long['per_voice'][name]:>10.1%}")
    lines.append(
        f"strings that ended by themselves {long['stopped']:.1%}, with a clean alignment "
        f"{long['clean_alignment']:.1%} of {long['n']}; rtf {found['speed']['rtf']:.2f}"
    )
    for slips in (single["confusions"], long["misheard"], long["warnings"]):
        more = [f"... and {len(slips) - SHOWN} more (--json has all)"] if len(slips) > SHOWN else []
        lines += [*slips[:SHOWN], *more]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="teach a judge with real takes")
    one.add_argument("--out", type=Path, required=True, help="folder for the judge's weights")
    one.add_argument("--classifier-steps", type=int, default=1500)
    one.add_argument("--recognizer-steps", type=int, default=2000)
    one.add_argument("--strings", type=int, default=300, help="held-out strings to score")
    two = commands.add_parser("judge", help="let it listen to a voice")
    two.add_argument("run", type=Path, help="run folder or checkpoint of the voice")
    two.add_argument("--judge", type=Path, required=True, help="folder that `train` wrote")
    two.add_argument("--seeds", type=int, default=3, help="times each speaker says each digit")
    two.add_argument("--strings", type=int, default=20, help="strings of 3 to 9 digits a speaker")
    for command in (one, two):
        command.add_argument("--root", type=Path, required=True, help="FSDD: holds recordings/")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    try:
        found = train(arguments) if arguments.command == "train" else judge(arguments)
    except ValueError as error:
        print(f"fsdd_judge: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found))
        return 0
    print(show(found))
    if "voice" in found:
        print(show_voice(found["voice"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
