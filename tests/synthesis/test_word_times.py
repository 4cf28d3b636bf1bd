"""Times of words against forced alignment of the wave, for a trained voice.

    TACOSKIP_VOICE=runs/arctic pytest -s tests/synthesis/test_word_times.py

The aligner is that of `tacoskip.data.durations`, trained on the waves alone. TACOSKIP_WHISPER, a
model of faster-whisper by name or folder, prints its word times beside.
"""

import difflib
import os

import numpy as np
import pytest
import torch

from tacoskip.data.durations import Models, _features, _moments
from tacoskip.evaluation.results import open_corpus
from tacoskip.loading import load_voice
from tacoskip.run_folder import find_checkpoint
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text.letters import plain_words

RUN = os.environ.get("TACOSKIP_VOICE", "")
WHISPER = os.environ.get("TACOSKIP_WHISPER", "")
SENTENCES = 60
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not RUN, reason="set TACOSKIP_VOICE to a run")]


def aligned_starts(voice: Voice, speeches: list[Speech]) -> list[list[float]]:
    """Seconds at which each group of symbols between spaces begins, by forced alignment."""
    models = Models(voice.tokenizer.symbols)
    ids = [[voice.tokenizer.symbols.index(s) for s in speech.symbols] for speech in speeches]
    mels = [voice.front_end.features(torch.from_numpy(s.wave))[1].numpy() for s in speeches]
    features = [_features(mel) for mel in mels]
    mean, deviation = _moments(features)
    scaled = [(one - mean) / deviation for one in features]
    models.fit(list(zip(scaled, ids, strict=True)))
    found = []
    for frames, symbols, speech in zip(scaled, ids, speeches, strict=True):
        edges = np.cumsum([0, *models.durations(frames, symbols)])
        first = [i + 1 for i, symbol in enumerate(speech.symbols) if symbol == " "]
        # Silence before the first symbol counts to it: the first word is left out.
        found.append([edges[i] / voice.config.audio.frames_per_second for i in first])
    return found


def whisper_differences(speeches: list[Speech]) -> list[float]:
    """Seconds from each word's start by Whisper to ours, where both have the same word."""
    import soxr
    from faster_whisper import WhisperModel

    model = WhisperModel(WHISPER, device="cpu", compute_type="int8")
    found = []
    for speech in speeches:
        wave = soxr.resample(speech.wave, speech.sample_rate, 16000)
        segments, _ = model.transcribe(wave, language="en", beam_size=1, word_timestamps=True)
        theirs = [(plain_words(w.word), w.start) for s in segments for w in s.words or []]
        ours = [(plain_words(w.text), w.start) for w in speech.words]
        a, b = ([text for text, _ in side] for side in (ours, theirs))
        for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            pairs = range(1 if block.a == 0 else 0, block.size)
            found += [ours[block.a + i][1] - theirs[block.b + i][1] for i in pairs]
    return found


def test_words_begin_where_the_wave_has_them() -> None:
    checkpoint = find_checkpoint(RUN)
    voice = load_voice(checkpoint, "cpu")
    corpus = open_corpus(voice.config, checkpoint)
    clips = sorted(corpus.test, key=lambda clip: clip.id)[:SENTENCES]
    speeches = voice.synthesize([clip.normalized for clip in clips])
    assert isinstance(speeches, list)
    differences = []
    for speech, starts in zip(speeches, aligned_starts(voice, speeches), strict=True):
        if len(speech.words) == len(starts) + 1:  # espeak joins no two of its words
            ours = [word.start for word in speech.words[1:]]
            differences += [a - b for a, b in zip(ours, starts, strict=True)]
    report = {"forced alignment": differences}
    if WHISPER:
        report["Whisper"] = whisper_differences(speeches)
    for name, values in report.items():
        median, late = np.median(np.abs(values)), np.median(values)
        print(
            f"\n{name}: {len(values)} words, {1000 * median:.0f} ms in the median (late by "
            f"{1000 * late:.0f} ms), 90 % within {1000 * np.quantile(np.abs(values), 0.9):.0f} ms"
        )
    assert len(differences) > 100
    assert np.median(np.abs(differences)) < 0.05
