"""Attention mechanisms by name: where in the text the decoder reads.

All share one contract. `keys(memory)` is computed once an utterance; `start` gives the state before
the first step; `forward(query, keys, mask, state)` gives weights (B, S) that are zero on padding,
and the next state, whose first tensor is always the weights. The context is `weights @ memory`,
formed by the decoder.

B batch, S symbols, C channels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.precision import at_least_float32

State = tuple[Tensor, ...]
Step = tuple[Tensor, State]  # weights (B, S) and the state behind the step


def masked_softmax(energies: Tensor, mask: Tensor) -> Tensor:
    """Softmax over real symbols: energies (B, S), mask (B, S) -> (B, S), float32 at least."""
    return torch.softmax(at_least_float32(energies).masked_fill(~mask, -math.inf), dim=1)


def shift_right(x: Tensor) -> Tensor:
    """Move (B, S) by one symbol; what moves in is zero."""
    return functional.pad(x, (1, 0))[:, :-1]


def one_hot_start(keys: Tensor) -> Tensor:
    """Weights (B, S) that read the first symbol."""
    weights = keys.new_zeros(keys.shape[:2])
    weights[:, 0] = 1.0
    return weights


class Attention(nn.Module):
    """What mechanisms share: by default the keys are the memory, and reading starts at symbol 0."""

    def keys(self, memory: Tensor) -> Tensor:
        """What is computed once an utterance: memory (B, S, C) -> (B, S, any)."""
        return memory

    def start(self, keys: Tensor) -> State:
        """The state before the first step."""
        return (one_hot_start(keys),)


class Bahdanau(Attention):
    """Additive, content-based: e = v . tanh(W q + V m) (Bahdanau et al. 2015). Tacotron's own; no
    sense of place.
    """

    def __init__(self, query_channels: int, memory_channels: int, channels: int):
        super().__init__()
        self.query = nn.Linear(query_channels, channels)
        self.memory = nn.Linear(memory_channels, channels, bias=False)
        self.energy = nn.Linear(channels, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        return self.memory(memory)

    def start(self, keys: Tensor) -> State:
        return (keys.new_zeros(keys.shape[:2]),)

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.energy(torch.tanh(self.query(query)[:, None] + keys))[:, :, 0]

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        weights = masked_softmax(self.energies(query, keys), mask)
        return weights, (weights,)


class LocationSensitive(Bahdanau):
    """Additive with the past in view: + U f, f = conv(last weights, summed weights) (Chorowski et
    al. 2015).

    Departure: the summed weights are seen beside the last ones, by 32 filters 31 long, as in
    Tacotron 2 (Shen et al. 2018).
    """

    def __init__(self, query_channels: int, memory_channels: int, channels: int):
        super().__init__(query_channels, memory_channels, channels)
        self.location = nn.Conv1d(2, 32, 31, padding=15, bias=False)
        self.location_out = nn.Linear(32, channels, bias=False)

    def start(self, keys: Tensor) -> State:
        first = one_hot_start(keys)
        return first, torch.zeros_like(first)

    def located_energies(self, query: Tensor, keys: Tensor, state: State) -> Tensor:
        located = self.location(torch.stack(state[:2], 1))
        location = located.transpose(1, 2)  # (B, C, S) -> (B, S, C)
        hidden = self.query(query)[:, None] + keys + self.location_out(location)
        return self.energy(torch.tanh(hidden))[:, :, 0]

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        weights = masked_softmax(self.located_energies(query, keys, state), mask)
        return weights, (weights, state[1] + weights)


class Forward(LocationSensitive):
    """Forward attention (Zhang, Ling and Dai 2018): only staying or moving one symbol on keeps
    weight.

        a_i(s) ~ (a_{i-1}(s) + a_{i-1}(s-1)) * softmax(e_i)(s)

    Energies are location-sensitive; no transition agent. Computed as softmax(e_i + log(a_{i-1}(s) +
    a_{i-1}(s-1))): the softmax of the energies and the normalisation after it cancel into one,
    which keeps gradients finite where the energies prefer symbols out of reach. Departure: outside
    training, weight left `back` symbols and more behind the largest is dropped, or it could grow
    again and take the speech back (a window as in Deep Voice 3, Ping et al. 2018).
    """

    back = 3

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        energies = self.located_energies(query, keys, state)
        reachable = state[0] + shift_right(state[0])
        if not self.training:
            symbols = torch.arange(mask.shape[1], device=mask.device)
            reachable = reachable * (symbols >= state[0].argmax(1, keepdim=True) - self.back)
        energies = energies + reachable.clamp(min=1e-12).log()
        weights = masked_softmax(energies, mask & (reachable > 0))
        return weights, (weights, state[1] + weights)


class StepwiseMonotonic(Bahdanau):
    """Stepwise monotonic attention (He, Deng and He 2019): at each step stay (p) or move by exactly
    one symbol.

        a_i(s) = a_{i-1}(s) p_i(s) + a_{i-1}(s-1) (1 - p_i(s-1)),   p = sigmoid(e + noise)

    The noise (training only) pushes p to 0 or 1. The energy's weight is normalised and biased to
    stay (3.5), as in the paper; weights stay soft in inference.
    """

    noise = 2.0  # its standard deviation

    def __init__(self, query_channels: int, memory_channels: int, channels: int):
        super().__init__(query_channels, memory_channels, channels)
        self.energy = nn.utils.parametrizations.weight_norm(nn.Linear(channels, 1, bias=False))
        self.stay_bias = nn.Parameter(torch.tensor(3.5))

    def start(self, keys: Tensor) -> State:
        return (one_hot_start(keys),)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        energies = at_least_float32(self.energies(query, keys)) + self.stay_bias
        if self.training:
            energies = energies + self.noise * torch.randn_like(energies)
        stay = torch.sigmoid(energies)
        last = mask & ~functional.pad(mask[:, 1:], (0, 1))
        stay = torch.where(last, 1.0, stay)  # nowhere to move on to from the last symbol
        moved = state[0] * (1 - stay)
        weights = (state[0] * stay + shift_right(moved)).masked_fill(~mask, 0.0)
        return weights, (weights,)


class GMM(Attention):
    """Mixture of Gaussians that only moves on: GMMv2b of Battenberg et al. (2020), after Graves
    (2013).

    mu_i = mu_{i-1} + softplus(d), sigma = softplus(s), w = softmax(k); biases start at a step of 1
    and a width of 10. Purely location-based: it never looks at the memory. The weights are
    densities and need not sum to one.
    """

    components = 5

    def __init__(self, query_channels: int, memory_channels: int, channels: int):
        super().__init__()
        self.hidden = nn.Linear(query_channels, channels)
        self.out = nn.Linear(channels, 3 * self.components)
        _, step, width = self.out.bias.data.chunk(3)
        nn.init.constant_(step, math.log(math.expm1(1.0)))
        nn.init.constant_(width, math.log(math.expm1(10.0)))

    def start(self, keys: Tensor) -> State:
        return keys.new_zeros(keys.shape[:2]), keys.new_zeros(keys.shape[0], self.components)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        out = at_least_float32(self.out(torch.tanh(self.hidden(query))))
        weight, step, width = out.chunk(3, dim=1)
        weight = torch.softmax(weight, 1)
        means = state[1] + functional.softplus(step)
        widths = functional.softplus(width) + 1e-3
        symbols = torch.arange(mask.shape[1], device=mask.device, dtype=means.dtype)
        distance = (symbols - means[:, :, None]) / widths[:, :, None]  # (B, components, S)
        density = weight[:, :, None] / widths[:, :, None] * torch.exp(-0.5 * distance.square())
        weights = (density.sum(1) / math.sqrt(2 * math.pi)).masked_fill(~mask, 0.0)
        return weights, (weights, means)


class DynamicConvolution(Attention):
    """Dynamic convolution attention (Battenberg et al. 2020): static, dynamic and prior filters
    over the last weights.

        e = v . tanh(U (F * a) + T (G(q) * a) + b) + log(P * a)

    P is a fixed beta-binomial filter (alpha 0.1, beta 0.9, length 11) that moves on by one symbol a
    step on average. Filters and lengths are the paper's: 8 static and 8 dynamic, 21 long.
    """

    filters, length = 8, 21
    prior: Tensor

    def __init__(self, query_channels: int, memory_channels: int, channels: int):
        super().__init__()
        self.static = nn.Conv1d(1, self.filters, self.length, padding=10, bias=False)
        self.static_out = nn.Linear(self.filters, channels, bias=False)
        self.hidden = nn.Linear(query_channels, channels)
        self.dynamic = nn.Linear(channels, self.filters * self.length, bias=False)
        self.dynamic_out = nn.Linear(self.filters, channels)
        self.energy = nn.Linear(channels, 1, bias=False)
        self.register_buffer("prior", _beta_binomial(11, 0.1, 0.9).flip(0)[None, None])

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, state: State) -> Step:
        last = state[0]
        batch, symbols = last.shape
        before = functional.pad(last[:, None], (self.prior.shape[2] - 1, 0))
        prior = functional.conv1d(before, self.prior)
        static = self.static(last[:, None]).transpose(1, 2)  # (B, C, S) -> (B, S, C)
        kernels = self.dynamic(torch.tanh(self.hidden(query))).view(-1, 1, self.length)
        # Each item is convolved with its own kernels: items become groups.
        past = last[None].to(kernels.dtype)
        dynamic = functional.conv1d(past, kernels, padding=self.length // 2, groups=batch)
        dynamic = dynamic.view(batch, self.filters, symbols).transpose(1, 2)
        hidden = torch.tanh(self.static_out(static) + self.dynamic_out(dynamic))
        energies = self.energy(hidden)[:, :, 0]
        weights = masked_softmax(energies + prior[:, 0].clamp(min=1e-6).log(), mask)
        return weights, (weights,)


def _beta_binomial(length: int, alpha: float, beta: float) -> Tensor:
    """Probabilities (length,) of moving on by 0, 1, ... symbols."""
    a, b = torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64)
    k = torch.arange(length, dtype=torch.float64)
    n = k[-1]

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return a.lgamma() + b.lgamma() - (a + b).lgamma()

    log_ways = -log_beta(k + 1, n - k + 1) - (n + 1).log()
    return (log_ways + log_beta(k + a, n - k + b) - log_beta(a, b)).exp().float()


ATTENTIONS: dict[str, Callable[[int, int, int], Attention]] = {
    "bahdanau": Bahdanau,
    "location": LocationSensitive,
    "gmm": GMM,
    "dynamic_convolution": DynamicConvolution,
    "forward": Forward,
    "stepwise_monotonic": StepwiseMonotonic,
}

# These never move on by more than one symbol a step, so a step must not be longer than a symbol.
ONE_SYMBOL_A_STEP = ("forward", "stepwise_monotonic")
