"""Tacotron read plainly from the paper with torch's own modules: a baseline, nothing for use.

One convolution, one norm and one ReLU at a time, torch's bidirectional GRU, GRU cells in a Python
loop over decoder steps. No lengths: every item fills its batch. On such a batch, without dropout,
it is tacoskip's network to the last rounding, and `take` gives it the same weights.

B batch, S symbols, T mel frames, R frames a step, M mels, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.models import cbhg, tacotron
from tacoskip.models.settings import CBHGSettings, TacotronSettings

Weights = dict[str, Tensor]


class ConvNorm(nn.Module):
    """Convolution, batch norm: (B, in, T) -> (B, out, T); an even kernel looks one frame ahead."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.pad = (kernel_size - 1) // 2, kernel_size // 2
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(functional.pad(x, self.pad)))


class Highway(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.transform, self.gate = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * torch.relu(self.transform(x)) + (1 - gate) * x


class CBHG(nn.Module):
    """x (B, T, in_channels) -> (B, T, 2 * gru_channels)."""

    def __init__(self, in_channels: int, settings: CBHGSettings):
        super().__init__()
        width, projected = settings.bank_channels, settings.projection_channels
        self.bank = nn.ModuleList(
            ConvNorm(in_channels, width, k) for k in range(1, settings.bank_size + 1)
        )
        self.pool = nn.MaxPool1d(2, stride=1)
        self.project1 = ConvNorm(width * settings.bank_size, projected, 3)
        self.project2 = ConvNorm(projected, in_channels, 3)
        same = in_channels == settings.channels
        self.widen = nn.Identity() if same else nn.Linear(in_channels, settings.channels)
        self.highways = nn.ModuleList(Highway(settings.channels) for _ in range(settings.depth))
        self.gru = nn.GRU(
            settings.channels, settings.gru_channels, batch_first=True, bidirectional=True
        )

    def forward(self, x: Tensor) -> Tensor:
        h = x.transpose(1, 2)  # (B, T, C) -> (B, C, T)
        h = torch.cat([torch.relu(layer(h)) for layer in self.bank], 1)
        h = self.pool(functional.pad(h, (0, 1)))
        h = self.project2(torch.relu(self.project1(h)))
        h = self.widen(x + h.transpose(1, 2))
        for highway in self.highways:
            h = highway(h)
        return self.gru(h)[0]

    def take(self, ours: cbhg.CBHG) -> None:
        """Copy the weights of tacoskip's."""
        state, mine = ours.state_dict(), {}
        width = self.bank[0].conv.out_channels
        for k in range(len(self.bank)):
            mine[f"bank.{k}.conv.weight"] = state[f"bank.convs.{k}.weight"]
            for name in ("weight", "bias", "running_mean", "running_var"):
                whole = state[f"bank.norm.{name}"]
                mine[f"bank.{k}.norm.{name}"] = whole[k * width : (k + 1) * width]
        for i in (1, 2):
            mine[f"project{i}.conv.weight"] = state[f"project{i}.weight"]
            for name in ("weight", "bias", "running_mean", "running_var"):
                mine[f"project{i}.norm.{name}"] = state[f"norm{i}.{name}"]
        for name in ("weight", "bias"):
            if isinstance(self.widen, nn.Linear):
                mine[f"widen.{name}"] = state[f"widen.{name}"]
            for i in range(len(self.highways)):
                unit = f"stack.units.{i}"
                mine[f"highways.{i}.transform.{name}"] = state[f"{unit}.transform.linear.{name}"]
                mine[f"highways.{i}.gate.{name}"] = state[f"{unit}.skip.gate.{name}"]
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            mine[f"gru.{name}"] = state[f"gru.ahead.{name}"]
            mine[f"gru.{name}_reverse"] = state[f"gru.back.{name}"]
        fill(self, mine)


def fill(module: nn.Module, weights: Weights) -> None:
    """Load all parameters and running statistics; a name that is missing is an error."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)


class PreNet(nn.Module):
    def __init__(self, in_channels: int, settings: TacotronSettings):
        super().__init__()
        first, second = settings.prenet_channels
        self.layers = nn.ModuleList([nn.Linear(in_channels, first), nn.Linear(first, second)])
        self.dropout = nn.Dropout(settings.prenet_dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)))
        return x


class Tacotron(nn.Module):
    """symbols (B, S), mel (B, T, M) -> mel (B, T, M), linear (B, T, F), stop logits (B, T / R)."""

    def __init__(
        self,
        n_symbols: int,
        n_mels: int,
        n_bins: int,
        settings: TacotronSettings,
        encoder: CBHGSettings,
        postnet: CBHGSettings,
    ):
        super().__init__()
        self.reduction, self.n_mels = settings.frames_per_step, n_mels
        self.embedding = nn.Embedding(n_symbols, settings.embedding_channels, padding_idx=0)
        self.encoder_prenet = PreNet(settings.embedding_channels, settings)
        self.encoder = CBHG(settings.prenet_channels[-1], encoder)
        memory, rnn = 2 * encoder.gru_channels, settings.attention_rnn_channels
        width, keys = settings.decoder_channels, settings.attention_channels
        self.prenet = PreNet(n_mels, settings)
        self.attention_rnn = nn.GRUCell(settings.prenet_channels[-1] + memory, rnn)
        self.query = nn.Linear(rnn, keys)
        self.keys = nn.Linear(memory, keys, bias=False)
        self.energy = nn.Linear(keys, 1, bias=False)
        self.project_in = nn.Linear(rnn + memory, width)
        self.grus = nn.ModuleList(nn.GRUCell(width, width) for _ in range(2))
        self.frames = nn.Linear(width, self.reduction * n_mels)
        self.stop = nn.Linear(width + memory, 1)
        self.postnet = CBHG(n_mels, postnet)
        self.linear = nn.Linear(2 * postnet.gru_channels, n_bins)

    def begin(self, symbols: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Memory (B, S, C), its keys, and the state before the first step."""
        memory = self.encoder(self.encoder_prenet(self.embedding(symbols)))
        batch = len(memory)
        state = [memory.new_zeros(batch, self.attention_rnn.hidden_size)]
        state += [memory.new_zeros(batch, memory.shape[2])]
        state += [memory.new_zeros(batch, gru.hidden_size) for gru in self.grus]
        return memory, self.keys(memory), state

    def step(
        self, frame: Tensor, memory: Tensor, keys: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One decoder step: frame (B, M) -> frames (B, R * M), stop logit (B, 1), state."""
        hidden, context, *rest = state
        hidden = self.attention_rnn(torch.cat([self.prenet(frame), context], 1), hidden)
        energies = self.energy(torch.tanh(self.query(hidden)[:, None] + keys))
        context = torch.bmm(torch.softmax(energies, 1).transpose(1, 2), memory)[:, 0]
        x = self.project_in(torch.cat([hidden, context], 1))
        after = []
        for gru, last in zip(self.grus, rest, strict=True):
            after.append(gru(x, last))
            x = x + after[-1]
        return self.frames(x), self.stop(torch.cat([x, context], 1)), [hidden, context, *after]

    def spectrogram(self, mel: Tensor) -> Tensor:
        return self.linear(self.postnet(mel))

    def forward(self, symbols: Tensor, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        memory, keys, state = self.begin(symbols)
        frame, frames, stops = torch.zeros_like(mel[:, 0]), [], []
        for start in range(0, mel.shape[1], self.reduction):
            found, stop, state = self.step(frame, memory, keys, state)
            frame = mel[:, start + self.reduction - 1]
            frames.append(found)
            stops.append(stop)
        out = torch.stack(frames, 1).reshape(len(mel), -1, self.n_mels)
        return out, self.spectrogram(out), torch.cat(stops, 1)

    def take(self, ours: tacotron.Tacotron) -> None:
        """Copy the weights of tacoskip's, whose attention is Bahdanau's."""
        self.encoder.take(ours.encoder.cbhg)
        self.postnet.take(ours.postnet)
        state = ours.state_dict()
        mine = {f"encoder.{k}": v for k, v in self.encoder.state_dict().items()}
        mine |= {f"postnet.{k}": v for k, v in self.postnet.state_dict().items()}
        for here, there in (
            *(("embedding", "encoder.embedding"), ("encoder_prenet", "encoder.prenet")),
            *(("prenet", "decoder.prenet"), ("attention_rnn", "decoder.loop.cell")),
            *(("query", "decoder.loop.attention.query"), ("keys", "decoder.loop.attention.memory")),
            *(("energy", "decoder.loop.attention.energy"), ("project_in", "decoder.project_in")),
            *(("grus", "decoder.grus"), ("frames", "decoder.frames"), ("stop", "decoder.stop")),
            ("linear", "linear"),
        ):
            for name, value in state.items():
                if name.startswith(f"{there}."):
                    mine[f"{here}{name[len(there) :]}".replace("_l0", "")] = value
        fill(self, mine)
