"""A recogniser's units as pieces of words: byte pair encoding (Sennrich et al. 2016), by
sentencepiece.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterable

from tacoskip.text.letters import BLANK, LETTERS, Letters, plain_words

WORD_START = "\u2581"  # how sentencepiece writes a space; it stands before each word


class Pieces:
    """Units of one or more letters; a space in one begins a word. Index 0 is CTC's blank.

    model: what `of` learnt, as text that travels in checkpoints. Raises ValueError when it is none.
    """

    def __init__(self, model: str) -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = model
        try:
            if not model:
                raise RuntimeError
            self._processor = SentencePieceProcessor(model_proto=base64.b64decode(model))
        except (RuntimeError, binascii.Error):
            raise ValueError("expected a model of word pieces, got something else") from None
        pieces = (self._processor.id_to_piece(i) for i in range(1, len(self._processor)))
        self.symbols = (BLANK, *(piece.replace(WORD_START, " ") for piece in pieces))

    @classmethod
    def of(cls, texts: Iterable[str], size: int) -> "Pieces":
        """Learn `size` units, the blank and every letter among them, from texts in spoken words.

        Raises ValueError when the texts have too few different pieces for it.
        """
        from sentencepiece import SentencePieceTrainer

        words, model = (plain_words(text, normalized=True) for text in texts), io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter([line for line in words if line]),
                model_writer=model,
                model_type="bpe",
                vocab_size=size,
                character_coverage=1.0,
                required_chars="".join(letter for letter in LETTERS[1:] if letter != " "),
                normalization_rule_name="identity",
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            most = re.search(r"value <= (\d+)", str(error))
            least = re.search(r"required_chars|smaller than", str(error))
            reason = f"at most {most[1]}" if most else f"at least {len(LETTERS)}" if least else ""
            raise ValueError(
                f"expected asr.bpe_size of {reason or 'another size'} for these texts, got {size}"
            ) from None
        return cls(base64.b64encode(model.getvalue()).decode())

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, normalized: bool = False) -> list[int]:
        """Return the units of a text; none where it holds no letters."""
        return list(self._processor.encode(plain_words(text, normalized)))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of units, the blank left out."""
        return "".join(self.symbols[i] for i in ids if i).removeprefix(" ")

    def spell(self, word: str) -> list[int]:
        """Return the units of one word as it stands in a text, the space before it included."""
        return self.encode(word, normalized=True)


Units = Letters | Pieces


def units_of(model: str) -> Units:
    """Return the units of a model of pieces; letters where there is none, ""."""
    return Pieces(model) if model else Letters()
