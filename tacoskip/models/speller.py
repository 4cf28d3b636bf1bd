"""The attention decoder of a hybrid recognizer: it spells a text token by token.

    last token -> embedding -> GRU with the last context -> attention over the memory -> next token

Trained beside CTC on the same encoder (Watanabe et al. 2017, "Hybrid CTC/attention architecture"),
with the attentions of the voice. Token 0, CTC's blank, stands for start and end of a text.

B batch, L encoder frames, S tokens of the text, C channels, V tokens of the
vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.settings import RecognizerSettings
from tacoskip.precision import at_least_float32

ATTENTION = "location"  # it may skip encoder frames, of which a token lasts several
CTC_WEIGHT = 0.3  # CTC's share of the loss, and of the scores of the texts it rescores


class Speller(nn.Module):
    """memory (B, L, C), mask (B, L), symbols (B, S) -> log probabilities (B, S + 1, V) of each
    next token, the end included.
    """

    def __init__(self, memory_channels: int, n_tokens: int, settings: RecognizerSettings):
        super().__init__()
        channels = settings.decoder_channels
        self.embedding = nn.Embedding(n_tokens, channels)
        self.loop = AttentionLoop(
            channels, memory_channels, channels, ATTENTION, max(channels // 2, 1)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(channels + memory_channels, n_tokens)

    def forward(self, memory: Tensor, mask: Tensor, symbols: Tensor) -> Tensor:
        previous = self.dropout(self.embedding(functional.pad(symbols, (1, 0))))
        hidden, context, _ = self.loop(previous, memory, mask)
        out = self.output(self.dropout(torch.cat([hidden, context], 2)))
        return functional.log_softmax(at_least_float32(out), dim=2)

    def score(self, memory: Tensor, texts: list[list[int]]) -> Tensor:
        """Log probability (N,) of each of N texts, lists of tokens, in one memory (L, C)."""
        lengths = [len(text) for text in texts]
        symbols = torch.zeros(len(texts), max(lengths), dtype=torch.long, device=memory.device)
        for row, text in enumerate(texts):
            symbols[row, : len(text)] = torch.tensor(text, dtype=torch.long)
        mask = torch.ones(len(texts), len(memory), dtype=torch.bool, device=memory.device)
        log_probs = self(memory.expand(len(texts), -1, -1), mask, symbols)
        wanted = functional.pad(symbols, (0, 1))[:, :, None]
        each = log_probs.gather(2, wanted)[:, :, 0]
        return torch.stack([row[: n + 1].sum() for row, n in zip(each, lengths, strict=True)])
