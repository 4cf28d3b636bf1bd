"""Prefix beam search with an n-gram language model: flashlight-text behind torchaudio.

Score of a text: log P(units | audio) + lm_weight * log P(text) + word_score * words (Hannun et al.
2014). A model of words makes its own words the lexicon, a model of characters leaves spelling free.

L encoder frames, U units.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tacoskip.listening.decode import Unit

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
    """Posteriors to units. symbols: the text of each unit; 0 is the blank.

    Raises ValueError for a language model that is not there or is no ARPA file.
    """

    def __init__(self, symbols: Sequence[str], settings: BeamSettings) -> None:
        from torchaudio.models.decoder import ctc_decoder

        tokens = [symbol.replace(" ", SPACE) for symbol in symbols]
        self.space = tokens.index(SPACE)
        words = list(arpa_words(settings.lm)) if settings.lm else []
        # A model of words knows words of several letters.
        self.lexicon = any(len(word) > 1 for word in words)
        options: dict[str, Any] = {
            "tokens": tokens,
            "beam_size": settings.size,
            "lm": settings.lm or None,
            "lm_weight": settings.lm_weight,
            "blank_token": tokens[0],
            "sil_token": SPACE,
            "log_add": True,
        }
        with TemporaryDirectory() as folder:
            lexicon = Path(folder) / "lexicon.txt"
            if self.lexicon:
                known = set(tokens)
                lexicon.write_text(
                    "".join(
                        f"{word} {' '.join(word)} {SPACE}\n" for word in words if set(word) <= known
                    ),
                    encoding="utf-8",
                )
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
                reason = " ".join(str(error).split())
                raise ValueError(f"{settings.lm}: not readable as ARPA ({reason})") from None

    def __call__(self, log_probs: Tensor) -> list[Unit]:
        """Return the units of the best text for (L, U), each at the frame where it was heard."""
        frames = len(log_probs)
        if self.lexicon:  # every word ends in a space, also the last
            end = log_probs.new_full((1, log_probs.shape[1]), -50.0)
            end[0, self.space] = 0.0
            log_probs = torch.cat([log_probs, end])
        found = self.decoder(log_probs.float().contiguous()[None])[0]
        if not found:
            return []
        units = []
        tokens, times = found[0].tokens.tolist(), found[0].timesteps.tolist()
        for index, time in zip(tokens, times, strict=True):
            frame = min(max(time - 1, 0), frames - 1)  # the decoder counts from 1
            units.append(Unit(index, frame, frame, float(log_probs[frame, index])))
        # The decoder's own spaces stand at both ends.
        while units and units[-1].index == self.space:
            units.pop()
        while units and units[0].index == self.space:
            units.pop(0)
        return units


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


def arpa_words(path: str | Path) -> Iterator[str]:
    """Yield the words of an ARPA file's unigrams, without the marks of start, end and unknown."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            if next((line for line in file if line.strip()), "").strip() != "\\data\\":
                raise ValueError(f"{path}: expected an ARPA language model, found no \\data\\")
            inside = False
            for line in file:
                line = line.strip()
                if line.startswith("\\"):
                    if inside:
                        return
                    inside = line == "\\1-grams:"
                elif inside and line:
                    word = line.split()[1]
                    if word not in ("<s>", "</s>", "<unk>"):
                        yield word
    except FileNotFoundError:
        raise ValueError(f"no such language model: {path}") from None
    except (UnicodeDecodeError, IndexError):
        raise ValueError(f"{path}: expected an ARPA language model of text") from None
