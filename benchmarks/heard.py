"""What does an independent recognizer hear when a voice speaks?

    python benchmarks/heard.py runs/ljspeech [--limit 20] [--json]

Speaks the test split (or, with --demo, the ten unseen sentences of the demo corpus, whose
reference is the corpus' own voice) and lets PocketSphinx's English model transcribe both the
recording and the voice. The recognizer is a small one of the 2000s: read the voice's word error
rate beside its error on the recordings, never alone. Extra: bench.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from pocketsphinx import Decoder

from tacoskip.audio import FrontEnd
from tacoskip.data import Corpus
from tacoskip.data.demo import corpus_voice, sentences
from tacoskip.evaluation.error_rates import word_errors
from tacoskip.evaluation.metrics import alignment_score, compare_speech
from tacoskip.synthesis.voice import Speech, Voice, load
from tacoskip.text import normalize

RECOGNISER_RATE = 16000


def hear(decoder: Decoder, wave: NDArray[np.float32], sample_rate: int) -> list[str]:
    """The words PocketSphinx hears in a wave (N,)."""
    wave = soxr.resample(wave, sample_rate, RECOGNISER_RATE)
    wave = wave / max(1e-6, float(np.abs(wave).max())) * 0.7
    decoder.start_utt()
    decoder.process_raw((wave * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.split() if found else []


def words(text: str) -> list[str]:
    kept = "".join(c if c.isalnum() or c in " '" else " " for c in normalize(text).lower())
    return kept.split()


def references(voice: Voice, demo: bool, limit: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Texts and the corpus' own voice saying them."""
    config = voice.config
    if demo:
        for text in sentences("unseen")[: limit or None]:
            yield text, corpus_voice(text, config.audio.sample_rate)
        return
    cuts = list(Corpus.of(config.data, config.audio, config.text).test)
    for cut in cuts[: limit or None]:
        yield cut.supervisions[0].text, cut.load_audio()[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    voice, decoder = load(arguments.run), Decoder(samprate=RECOGNISER_RATE, loglevel="FATAL")
    front_end, rate = FrontEnd(voice.config.audio), voice.sample_rate
    rows: list[dict[str, Any]] = []
    for text, reference in references(voice, arguments.demo, arguments.limit):
        speech = voice.synthesize(text)
        assert isinstance(speech, Speech)
        mels = [
            front_end.features(torch.from_numpy(np.asarray(wave, dtype=np.float32)))[1]
            for wave in (reference, speech.wave)
        ]
        said = words(text)
        row = {
            "text": text,
            "words": len(said),
            "recording_heard": " ".join(hear(decoder, reference, rate)),
            "voice_heard": " ".join(hear(decoder, speech.wave, rate)),
            "stopped": speech.stopped,
            "alignment": alignment_score(speech.alignment).score,
        } | compare_speech(reference, speech.wave, rate, voice.config.audio.hop_length, *mels)
        for who in ("recording", "voice"):
            row[f"{who}_errors"] = word_errors(" ".join(said), row[f"{who}_heard"]).total
        rows.append(row)
        if not arguments.json:
            print(f"{text}\n    recording: {row['recording_heard']}")
            print(f"    voice:     {row['voice_heard']}   (mcd_db {row['mcd_db']:.1f})")
    total = sum(row["words"] for row in rows)
    summary = {
        "texts": len(rows),
        "words": total,
        "wer_recording": sum(row["recording_errors"] for row in rows) / total,
        "wer_voice": sum(row["voice_errors"] for row in rows) / total,
        "mcd_db": float(np.mean([row["mcd_db"] for row in rows])),
        "alignment": float(np.mean([row["alignment"] for row in rows])),
        "stop_failures": sum(not row["stopped"] for row in rows),
    }
    if arguments.json:
        print(json.dumps(summary | {"rows": rows}))
    else:
        print(
            ", ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in summary.items()
            )
        )


if __name__ == "__main__":
    main()
