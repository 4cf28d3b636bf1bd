"""Training of the FSDD judge on real takes 5 to 44; 0 to 4, the corpus' own test, are held out.

The clips are made louder, faster, noisier and duller at random; no synthesised clip is ever heard.
N samples at 8 kHz, T frames.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fsdd_judge_model import BLANK, SAMPLE_RATE, DigitClassifier, DigitRecognizer, Ear, Judge, Wave
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.audio import read_audio

TEST_TAKES = 5
LONGEST_PAUSE = 0.12  # seconds between digits of a held-out string, as in the voice's training data


@dataclass(frozen=True)
class Clip:
    """One take: the digit it says, who says it, and the samples (N,)."""

    digit: int
    speaker: str
    take: int
    wave: Wave


def read_clips(root: Path) -> tuple[list[Clip], list[Clip]]:
    """Read root/recordings, or root itself; return the clips to train on and those held out.

    Raises ValueError when no file there is called digit_speaker_take.wav.
    """
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    clips = []
    for path in sorted(folder.glob("*.wav")):
        if name := re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem):
            wave = np.asarray(read_audio(path, SAMPLE_RATE)[0])
            clips.append(Clip(int(name[1]), name[2], int(name[3]), wave))
    if not clips:
        raise ValueError(f"expected files like 7_jackson_32.wav in {folder}, got none")
    train = [clip for clip in clips if clip.take >= TEST_TAKES]
    return train, [clip for clip in clips if clip.take < TEST_TAKES]


def augment(wave: Wave, rng: np.random.Generator) -> Wave:
    """Change speed and pitch by up to 10 %, timbre (a short filter), level, silence, noise."""
    places = np.arange(0, len(wave) - 1, rng.uniform(0.9, 1.1))
    wave = np.interp(places, np.arange(len(wave)), wave)
    wave = np.convolve(wave, [1.0, *rng.uniform(-0.4, 0.4, size=3)])
    wave = np.pad(wave, rng.integers(0, SAMPLE_RATE // 5, size=2))
    level = np.sqrt(np.square(wave).mean()) + 1e-9
    noise = rng.normal(size=len(wave)) * level * 10 ** (-rng.uniform(15, 50) / 20)
    return np.asarray((wave + noise) * 10 ** (rng.uniform(-12, 12) / 20))


def join(clips: list[Clip], rng: np.random.Generator, longest_pause: float = LONGEST_PAUSE) -> Wave:
    """Return the clips one after another, each within 3 dB of its level, with random pauses."""
    parts = []
    for clip in clips:
        parts.append(clip.wave * 10 ** (rng.uniform(-3, 3) / 20))
        parts.append(np.zeros(int(rng.uniform(0, longest_pause) * SAMPLE_RATE)))
    return np.concatenate(parts[:-1])


def random_string(clips: list[Clip], rng: np.random.Generator) -> list[Clip]:
    """Draw 1 to 9 clips of one speaker."""
    speaker = clips[rng.integers(len(clips))].speaker
    own = [clip for clip in clips if clip.speaker == speaker]
    return [own[k] for k in rng.integers(len(own), size=rng.integers(1, 10))]


def classifier_loss(
    net: DigitClassifier, ear: Ear, clips: list[Clip], rng: np.random.Generator
) -> Tensor:
    """Cross-entropy of 32 random clips."""
    chosen = [clips[k] for k in rng.integers(len(clips), size=32)]
    logits = net(*ear([augment(clip.wave, rng) for clip in chosen]))
    return functional.cross_entropy(logits, torch.tensor([clip.digit for clip in chosen]))


def recognizer_loss(
    net: DigitRecognizer, ear: Ear, clips: list[Clip], rng: np.random.Generator
) -> Tensor:
    """CTC loss of 16 strings of 1 to 9 digits, some spoken without a breath, some slowly."""
    strings = [random_string(clips, rng) for _ in range(16)]
    waves = [augment(join(string, rng, rng.choice([0.05, 0.15, 0.3])), rng) for string in strings]
    log_probabilities, lengths = net(*ear(waves))
    digits = torch.tensor([clip.digit for string in strings for clip in string])
    sizes = torch.tensor([len(string) for string in strings])
    # (B, T, 11) -> (T, B, 11)
    log_probabilities = log_probabilities.transpose(0, 1)
    return functional.ctc_loss(
        log_probabilities, digits, lengths, sizes, blank=BLANK, zero_infinity=True
    )


def fit(
    net: nn.Module,
    loss_of: Callable[[np.random.Generator], Tensor],
    steps: int,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Train in place: AdamW, one cycle of the learning rate to 3e-3, gradients clipped to 1."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    net.train()
    recent: list[float] = []
    for step in range(1, steps + 1):
        loss = loss_of(rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent = [*recent[-99:], loss.item()]
        if step % 100 == 0 or step == steps:
            say(f"{type(net).__name__}: step {step} of {steps}, loss {np.mean(recent):.3f}")


def train_judge(
    clips: list[Clip], steps: tuple[int, int], seed: int, say: Callable[[str], None]
) -> Judge:
    """Train the classifier and the recognizer for their steps, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    ear, classifier, recognizer = Ear(), DigitClassifier(), DigitRecognizer()
    fit(classifier, lambda rng: classifier_loss(classifier, ear, clips, rng), steps[0], seed, say)
    fit(recognizer, lambda rng: recognizer_loss(recognizer, ear, clips, rng), steps[1], seed, say)
    return Judge(classifier, recognizer)
