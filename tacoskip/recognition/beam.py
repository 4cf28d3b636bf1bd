"""Prefix beam search with an n-gram language model: flashlight-text behind torchaudio.

Score of a text: log P(units | audio) + lm_weight * log P(text) + word_score * words (Hannun et al.
2014). A model of words makes its own words the lexicon, a model of characters leaves spelling free.

L encoder frames, U units.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tacoskip.recognition.arpa import arpa_words
from tacoskip.recognition.decode import Unit
from tacoskip.text.subwords import Vocabulary

SPACE = "|"  # how lexicon, tokens and language models of characters write a space


@dataclass(frozen=True)
class BeamSettings:
    """size: hypotheses kept a frame. lm: an ARPA file ("": none). lm_weight, word_score: of the
    language model, and added for each word of a model of words.
    """

    size: int = 50
    lm: str = ""
    lm_weight: float = 1.0
    word_score: float = 0.0


class BeamDecoder:
    """Posteriors to units. vocabulary: the units; 0 is the blank.

    Raises ValueError for a language model that is not there, is no ARPA file, or is one of
    characters where units are longer.
    """

    def __init__(self, vocabulary: Vocabulary, settings: BeamSettings, nbest: int = 1) -> None:
        from torchaudio.models.decoder import ctc_decoder

        tokens = [symbol.replace(" ", SPACE) for symbol in vocabulary.symbols]
        self.space = tokens.index(SPACE)
        words = arpa_words(settings.lm) if settings.lm else []
        # A model of words knows words of several letters.
        self.lexicon = any(len(word) > 1 for word in words)
        if words and not self.lexicon and vocabulary.model:
            raise ValueError(f"{settings.lm}: expected a model of words with asr.tokens=bpe")
        # Where a word's spelling ends in a space, the last word's must too.
        self.closing = self.lexicon and not vocabulary.model
        options: dict[str, Any] = {
            "tokens": tokens,
            "beam_size": settings.size,
            "nbest": nbest,
            "lm": settings.lm or None,
            "lm_weight": settings.lm_weight,
            "blank_token": tokens[0],
            "sil_token": SPACE,
            "log_add": True,
        }
        with TemporaryDirectory() as folder:
            lexicon = Path(folder) / "lexicon.txt"
            if self.lexicon:
                known = set("".join(tokens))
                spelled = (
                    (word, " ".join(tokens[unit] for unit in vocabulary.spell(word)))
                    for word in words
                    if set(word) <= known
                )
                lines = [f"{word} {spelling}\n" for word, spelling in spelled]
                lexicon.write_text("".join(lines), encoding="utf-8")
                options |= {"word_score": settings.word_score}
            elif words:
                # Without it the model's entries come in an order of their own.
                order = Path(folder) / "order.txt"
                order.write_text("\n".join([*tokens, "<unk>"]) + "\n", encoding="utf-8")
                options |= {"lm_dict": str(order)}
            try:
                with _quiet():
                    self.decoder = ctc_decoder(str(lexicon) if self.lexicon else None, **options)
            except RuntimeError as error:  # KenLM's word on a broken file
                reason = " ".join(str(error).split()).rpartition(" threw ")[2]
                raise ValueError(f"{settings.lm}: not readable as ARPA ({reason})") from None

    def __call__(self, log_probs: Tensor) -> list[Unit]:
        """Return the units of the best text for (L, U), each at the frame where it was heard."""
        return self.nbest(log_probs)[0][0]

    def nbest(self, log_probs: Tensor) -> list[tuple[list[Unit], float]]:
        """Return the best texts for (L, U) with their scores, the best first; at least one."""
        padded = log_probs
        if self.closing:
            end = log_probs.new_full((1, log_probs.shape[1]), -50.0)
            end[0, self.space] = 0.0
            padded = torch.cat([log_probs, end])
        found = self.decoder(padded.float().contiguous()[None])[0]
        return [(self._units(text, log_probs), text.score) for text in found] or [([], 0.0)]

    def _units(self, text: Any, log_probs: Tensor) -> list[Unit]:
        units = []
        for index, time in zip(text.tokens.tolist(), text.timesteps.tolist(), strict=True):
            frame = min(max(time - 1, 0), len(log_probs) - 1)  # the decoder counts from 1
            units.append(Unit(index, frame, frame, float(log_probs[frame, index])))
        # The decoder's own spaces stand at both ends.
        while units and units[-1].index == self.space:
            units.pop()
        while units and units[0].index == self.space:
            units.pop(0)
        return units


class Rescorer:
    """Chooses among the best texts of a beam search with a speller's score as well.

    score: log probabilities of texts in a memory (L, C). weight: of the beam's score.
    """

    def __init__(
        self, beam: BeamDecoder, score: Callable[[Tensor, list[list[int]]], Tensor], weight: float
    ) -> None:
        self.beam, self.score, self.weight = beam, score, weight

    def __call__(self, log_probs: Tensor, memory: Tensor) -> list[Unit]:
        """Return the units of the best text for (L, U) and the encoder's memory (L, C)."""
        found = self.beam.nbest(log_probs)
        if len(found) == 1:
            return found[0][0]
        spelled = self.score(memory, [[unit.index for unit in units] for units, _ in found])
        totals = [
            self.weight * score + (1 - self.weight) * own
            for (_, score), own in zip(found, spelled.tolist(), strict=True)
        ]
        return found[totals.index(max(totals))][0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep KenLM's progress, which it writes to the process's own stderr, from the user."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
