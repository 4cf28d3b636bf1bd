"""Prefix beam search with an n-gram language model, by torchaudio's flashlight-text.

Score of a text: ln P(tokens | audio) + lm_weight * log10 P(text) (after Hannun et al. 2014). The
words of a word model are the lexicon; a character model leaves spelling free.

L encoder frames, V tokens of the vocabulary, C channels.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tacoskip.recognition.arpa import SPACE, arpa_words
from tacoskip.recognition.decode import Token
from tacoskip.text.subwords import Vocabulary


@dataclass(frozen=True)
class BeamSettings:
    """size: hypotheses kept a frame. lm: an ARPA file ("": none), counted by lm_weight."""

    size: int = 50
    lm: str = ""
    lm_weight: float = 1.0


class BeamDecoder:
    """Posteriors to tokens.

    Raises ValueError for a language model that does not exist, is not an ARPA file, or is one of
    characters where tokens are subwords, and where flashlight-text is not installed.
    """

    def __init__(self, vocabulary: Vocabulary, settings: BeamSettings, nbest: int = 1) -> None:
        tokens = [symbol.replace(" ", SPACE) for symbol in vocabulary.symbols]
        self.space = tokens.index(SPACE)
        words = arpa_words(settings.lm) if settings.lm else []
        is_word_model = any(len(word) > 1 for word in words)
        if words and not is_word_model and vocabulary.model:
            raise ValueError(f"{settings.lm}: expected a model of words with asr.tokens=bpe")
        # Where the spelling of a word ends in a space, that of the last word must too.
        self.needs_last_space = is_word_model and not vocabulary.model
        if find_spec("flashlight") is None:
            raise ValueError(
                "a beam search needs flashlight-text, which has no wheel for Python 3.13: "
                "use Python 3.11 or 3.12, or --beam 0"
            )
        from torchaudio.models.decoder import ctc_decoder

        options: dict[str, Any] = {"lexicon": None}
        with TemporaryDirectory() as folder:
            path = Path(folder) / "tokens.txt"
            if is_word_model:
                path.write_text(_lexicon(words, vocabulary, tokens), encoding="utf-8")
                options = {"lexicon": str(path)}
            elif words:  # without this file the model's entries have another order
                path.write_text("\n".join([*tokens, "<unk>"]) + "\n", encoding="utf-8")
                options["lm_dict"] = str(path)
            try:
                with _quiet_stderr():
                    self.decoder = ctc_decoder(
                        tokens=tokens,
                        lm=settings.lm or None,
                        nbest=nbest,
                        beam_size=settings.size,
                        lm_weight=settings.lm_weight,
                        log_add=True,
                        blank_token=tokens[0],
                        sil_token=SPACE,
                        **options,
                    )
            except RuntimeError as error:  # KenLM's message about a broken file
                reason = " ".join(str(error).split()).rpartition(" threw ")[2]
                raise ValueError(f"{settings.lm}: not readable as ARPA ({reason})") from None

    def __call__(self, log_probs: Tensor) -> list[Token]:
        """Return the tokens of the best text for (L, V), each at the frame where it begins."""
        return self.nbest(log_probs)[0][0]

    def nbest(self, log_probs: Tensor) -> list[tuple[list[Token], float]]:
        """Return the best texts for (L, V) with their scores, the best first; at least one."""
        padded = log_probs
        if self.needs_last_space:
            end = log_probs.new_full((1, log_probs.shape[1]), -50.0)
            end[0, self.space] = 0.0
            padded = torch.cat([log_probs, end])
        found = self.decoder(padded.float().contiguous()[None])[0]
        return [(self._tokens(text, log_probs), text.score) for text in found] or [([], 0.0)]

    def _tokens(self, text: Any, log_probs: Tensor) -> list[Token]:
        tokens = []
        for index, time in zip(text.tokens.tolist(), text.timesteps.tolist(), strict=True):
            frame = min(max(time - 1, 0), len(log_probs) - 1)  # the decoder counts from 1
            tokens.append(Token(index, frame, frame, float(log_probs[frame, index])))
        # The decoder puts spaces of its own at both ends.
        while tokens and tokens[-1].index == self.space:
            tokens.pop()
        while tokens and tokens[0].index == self.space:
            tokens.pop(0)
        return tokens


def rescore(
    beam: BeamDecoder,
    score: Callable[[Tensor, list[list[int]]], Tensor],
    weight: float,
    log_probs: Tensor,
    memory: Tensor,
) -> list[Token]:
    """Return the tokens of the best text for (L, V) and the encoder's memory (L, C).

    score: log probabilities of texts in a memory, by the attention decoder. weight: of the beam's
    own score beside it.
    """
    texts, beam_scores = zip(*beam.nbest(log_probs), strict=True)
    if len(texts) == 1:
        return list(texts[0])
    spelling = score(memory, [[token.index for token in tokens] for tokens in texts])
    totals = weight * torch.tensor(beam_scores) + (1 - weight) * spelling
    return list(texts[int(totals.argmax())])


def _lexicon(words: list[str], vocabulary: Vocabulary, tokens: list[str]) -> str:
    """Return the spelling of each word that the tokens can spell, a word a line."""
    known = set("".join(tokens))
    spellings = {
        word: " ".join(tokens[token] for token in vocabulary.spell(word))
        for word in words
        if set(word) <= known
    }
    return "".join(f"{word} {spelling}\n" for word, spelling in spellings.items())


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide KenLM's progress, which it writes to the standard error of the process."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
