"""Attention mechanisms: how soon each aligns, and whether it reads a long text.

    python benchmarks/attention.py --steps 300 --out runs/attention [--only forward,gmm] [key=value]

Trains the `demo` recipe once with each mechanism, everything else equal (same seed, same batches).
aligned: the first step at which the speech of validation texts, free running, has an `alignment` of
0.5; alignment, mcd_db: at the last step; long: 1,000 characters synthesized in one piece.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timing import print_table

from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.loading import load
from tacoskip.models.attention import ATTENTIONS
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.voice import REST_SECONDS, Voice
from tacoskip.training import train


def long_text(corpus: PreparedCorpus, characters: int = 1000) -> str:
    """Join test sentences until there are `characters` of them."""
    texts = [clip.text.rstrip(".") for clip in corpus.test]
    text = ", ".join(texts * (1 + characters // max(1, sum(map(len, texts)))))
    return text[:characters].rsplit(" ", 1)[0] + "."


@torch.no_grad()
def synthesize_whole(voice: Voice, text: str) -> dict[str, Any]:
    """Synthesize a text in one piece and score its alignment."""
    ids = torch.tensor([voice.tokenizer.encode(text)])
    limit = torch.tensor([int(ids.shape[1] * voice.frames_per_symbol * 2)])
    output = voice.model.eval().infer(
        ids,
        torch.tensor([ids.shape[1]]),
        torch.zeros(1, dtype=torch.long),
        limit,
        round(REST_SECONDS * voice.config.audio.frames_per_second),
    )
    score = alignment_score(output.alignments[0])
    return {
        "long_alignment": round(score.score, 3),
        "long_coverage": round(score.coverage, 3),
        "long_reached_end": score.reached_end,
        "long_stopped": bool(output.stopped[0]),
        "long_seconds": round(int(output.mel_lengths[0]) / voice.config.audio.frames_per_second, 1),
    }


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one mechanism and return its row."""
    run = arguments.out / name
    config = load_config(
        "demo",
        [
            *arguments.overrides,
            *(f"tts.attention={name}", f"run={run}", f"train.max_steps={arguments.steps}"),
            *("train.max_minutes=0", "train.evaluate_every=50", "train.sentences=[]"),
        ],
    )
    prepare(config)
    summary = train(config)
    events = EventAccumulator(str(run)).Reload()
    alignments = events.Scalars("validation/alignment")
    corpus = PreparedCorpus.of(config)
    return {
        "attention": name,
        "aligned": next((one.step for one in alignments if one.value >= 0.5), None),
        "alignment": round(alignments[-1].value, 3),
        "mcd_db": round(events.Scalars("validation/mcd_db")[-1].value, 2),
        "minutes": summary["minutes"],
    } | synthesize_whole(load(run), long_text(corpus))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/attention"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default=",".join(ATTENTIONS))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    print_table([measure(name, arguments) for name in arguments.only.split(",")])


if __name__ == "__main__":
    main()
