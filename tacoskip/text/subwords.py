"""A recognizer's tokens: characters, or subwords by byte pair encoding (Sennrich et al. 2016).

Token 0 is CTC's blank.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterable

from tacoskip.text.letters import BLANK, LETTERS, plain_words

WORD_START = "\u2581"  # how sentencepiece writes a space; it stands before each word


class Characters:
    """One token a character; the space belongs to the word before it.

    symbols: tokens by index. model: what `Subwords.train` learned, as text for checkpoints, or "".
    """

    model = ""

    def __init__(self, symbols: tuple[str, ...] = LETTERS) -> None:
        self.symbols = symbols

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, normalized: bool = False) -> list[int]:
        """Return the tokens of a text; none where it holds no letters."""
        return [self.symbols.index(c) for c in plain_words(text, normalized)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens, without blanks."""
        return "".join(self.symbols[i] for i in ids if i)

    def spell(self, word: str) -> list[int]:
        """Return the tokens of one word within a text, with the space that belongs to it."""
        return [*self.encode(word, normalized=True), self.symbols.index(" ")]


class Subwords(Characters):
    """Tokens of one or more letters; a space in one begins a word.

    Raises ValueError when `model` is not what `train` learned.
    """

    def __init__(self, model: str) -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = model
        try:
            if not model:
                raise RuntimeError
            self._processor = SentencePieceProcessor(model_proto=base64.b64decode(model))
        except (RuntimeError, binascii.Error):
            raise ValueError("expected a subword model, got something else") from None
        tokens = [self._processor.id_to_piece(i) for i in range(1, len(self._processor))]
        if not "".join(tokens).isprintable():
            raise ValueError("expected a subword model of letters, got control characters")
        super().__init__((BLANK, *(token.replace(WORD_START, " ") for token in tokens)))

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "Subwords":
        """Learn `size` tokens, the blank and every letter among them, from normalized texts.

        Raises ValueError when the texts do not have so many different subwords.
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

    def encode(self, text: str, normalized: bool = False) -> list[int]:
        return list(self._processor.encode(plain_words(text, normalized)))

    def decode(self, ids: Iterable[int]) -> str:
        return super().decode(ids).removeprefix(" ")

    def spell(self, word: str) -> list[int]:
        return self.encode(word, normalized=True)


Vocabulary = Characters | Subwords


def vocabulary_from(model: str) -> Vocabulary:
    """Return the vocabulary of a subword model, that of characters for ""."""
    return Subwords(model) if model else Characters()
