"""An exported run beside the one that it was made from: what is lost, what is gained."""

import time

import numpy as np

from tacoskip.data.corpus import Corpus
from tacoskip.data.errors import CorpusError
from tacoskip.data.joining import cut_wave, spoken
from tacoskip.evaluation.error_rates import NONE, character_errors
from tacoskip.evaluation.recognizers import utterances
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.synthesis.voice import Speech, Voice
from tacoskip.text.letters import plain_words

# What is said, and how many clips are heard.
SENTENCE, CLIPS = "One two three four five six seven eight nine.", 50


def compare_voices(voice: Voice, exported: Voice) -> dict[str, float]:
    """Speak `SENTENCE` with both: how far their mels are apart in dB (mean and largest, over the
    frames that both have), frames of each, and seconds of work a second of speech.
    """
    found = {}
    for name, one in (("torch", voice), ("exported", exported)):
        one.synthesize(SENTENCE)  # the first call pays for threads and buffers
        began = time.perf_counter()
        speech = one.synthesize(SENTENCE)
        assert isinstance(speech, Speech)
        found[name] = speech.mel, (time.perf_counter() - began) / speech.seconds
    (ours, work), (theirs, their_work) = found["torch"], found["exported"]
    count = min(len(ours), len(theirs))
    apart = 20 * np.abs(ours[:count] - theirs[:count])
    return {
        "mel_difference_db": float(apart.mean()),
        "mel_difference_db_max": float(apart.max()),
        "torch_frames": len(ours),
        "frames": len(theirs),
        "torch_rtf": work,
        "rtf": their_work,
    }


def compare_recognizers(
    recognizer: SpeechRecognizer, exported: SpeechRecognizer
) -> dict[str, float]:
    """Character error rate of both on at most `CLIPS` test clips of the run's corpus, and seconds
    of work a second of speech; nothing where that corpus is not prepared here.
    """
    config = recognizer.config
    try:
        corpus = Corpus.of(config.data, config.audio, config.text)
        cuts = utterances(corpus, "test", CLIPS, (1, 1), config.data.max_seconds)
    except (CorpusError, ValueError):
        return {}
    waves = [cut_wave(cut) for cut in cuts]
    said = [plain_words(spoken(cut), normalized=True) for cut in cuts]
    seconds = sum(map(len, waves)) / recognizer.sample_rate
    result: dict[str, float] = {"clips": len(cuts)}
    for name, one in (("torch_", recognizer), ("", exported)):
        one.transcribe(waves[0])
        began = time.perf_counter()
        heard = [transcript.text for transcript in one.transcribe_waves(waves)]
        result[f"{name}rtf"] = (time.perf_counter() - began) / seconds
        errors = sum(map(character_errors, said, heard), NONE)
        result[f"{name}cer"] = errors.rate
    return result
