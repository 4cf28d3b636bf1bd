"""CUDA graphs of the gradients, with a stand-in for the GPU's capture."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import build_tacotron
from tacoskip.training import cuda_graph
from tacoskip.training.cuda_graph import GraphedGradients, Result, padded
from tacoskip.training.losses import masked_l1

SETTINGS = ["data.corpus=folder", "tts.prenet_dropout=0", "tts.frame_dropout=0"]
PARTS = ("bank_size=2", "bank_channels=8", "depth=1", "channels=8", "gru_channels=8")
SETTINGS += [f"{net}.{part}" for net in ("cbhg", "postnet") for part in PARTS]
SETTINGS += ["tts.attention_rnn_channels=16", "tts.decoder_channels=16"]


class Replayer:
    """Replays work by running it again, its results copied to where they first were."""

    def __init__(self, network: Tacotron) -> None:
        self.network = network
        self.passes, self.captures, self.replays = 0, 0, 0

    def run(self, work: Callable[[], Result]) -> Result:
        self.passes += 1
        return work()

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
        self.captures += 1
        result = work()
        gradients = [parameter.grad for parameter in self.network.parameters()]

        def replay() -> None:
            self.replays += 1
            self.network.zero_grad()
            losses, _ = work()
            for name, value in losses.items():
                result[0][name].copy_(value)
            for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
                if gradient is not None and parameter.grad is not None:
                    gradient.copy_(parameter.grad)

        return replay, result


@pytest.fixture(params=["durations", "forward"])
def network(request: pytest.FixtureRequest) -> Tacotron:
    torch.manual_seed(0)
    config = load_config("base/tts", [*SETTINGS, f"tts.attention={request.param}"])
    return build_tacotron(config, 30, 1).train()


def random_batch(network: Tacotron, symbols: int, frames: int) -> Batch:
    shape, lengths = (2, frames), torch.tensor([[symbols], [symbols - 3]])
    ends = torch.minimum(torch.arange(symbols + 1), lengths) * torch.tensor(
        [[frames], [frames - 5]]
    )
    return Batch(
        torch.randint(1, 30, (2, symbols)),
        torch.tensor([symbols, symbols - 3]),
        torch.randn(*shape, len(network.mel_mean)),
        torch.randn(*shape, len(network.linear_mean)),
        torch.tensor([frames, frames - 5]),
        torch.zeros(2, dtype=torch.long),
        ["a", "b"],
        ["", ""],
        durations=(ends // lengths).diff(dim=1),
    )


def compute(network: Tacotron) -> Callable[[Batch], Result]:
    def gradients(batch: Batch) -> Result:
        inputs = batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.speakers
        out = network(*inputs, batch.durations)
        loss = masked_l1(out.mel, batch.mel, batch.mel_lengths)
        loss = loss + masked_l1(out.linear, batch.linear, batch.mel_lengths)
        loss.backward()
        return {"loss": loss.detach()}, out

    return gradients


def gradients_of(network: Tacotron) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_replayed_gradients_are_those_of_the_batch(network: Tacotron) -> None:
    replayer = Replayer(network)
    graphs = GraphedGradients(network, lambda *_, **__: None, replayer)
    for frames in (20, 31, 27):  # one shape after padding
        batch = random_batch(network, 9, frames)
        network.zero_grad()
        losses, _ = graphs(batch, compute(network), whole=True)
        found = gradients_of(network).clone()
        network.zero_grad()
        expected, _ = compute(network)(batch)
        torch.testing.assert_close(losses["loss"], expected["loss"])
        torch.testing.assert_close(found, gradients_of(network), rtol=1e-3, atol=1e-5)
    assert (replayer.passes, replayer.captures, replayer.replays) == (1, 1, 2)


def test_shapes_and_reductions_have_graphs_of_their_own(
    network: Tacotron, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "GRAPHS", 2)
    replayer = Replayer(network)
    graphs = GraphedGradients(network, lambda *_, **__: None, replayer)
    for frames, reduction in ((20, 2), (70, 2), (20, 1)):
        network.reduction = reduction
        for _ in range(2):
            network.zero_grad()
            graphs(random_batch(network, 9, frames), compute(network), whole=True)
    assert replayer.captures == 3
    assert len(graphs.graphs) == 2


def test_parts_and_logged_steps_run_eagerly(network: Tacotron) -> None:
    replayer = Replayer(network)
    graphs = GraphedGradients(network, lambda *_, **__: None, replayer)
    batch = random_batch(network, 9, 20)
    graphs(batch, compute(network), whole=False)
    graphs.eager = True
    assert graphs(batch, compute(network), whole=True)[1] is not None
    assert (replayer.passes, replayer.captures) == (2, 0)


def test_a_failed_capture_turns_graphs_off(network: Tacotron) -> None:
    class Failing(Replayer):
        def capture(self, work: Callable[[], Result]) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    replayer, messages = Failing(network), list[str]()
    graphs = GraphedGradients(network, lambda text, **_: messages.append(text), replayer)
    for _ in range(4):
        graphs(random_batch(network, 9, 20), compute(network), whole=True)
    assert replayer.passes == 4
    assert len(messages) == 1 and messages[0].endswith("stream is capturing")


def test_padding_reaches_the_next_multiples(network: Tacotron) -> None:
    batch = padded(random_batch(network, 17, 65))
    assert batch.symbols.shape[1] == 32
    assert batch.mel.shape[1] == batch.linear.shape[1] == 128
    assert padded(batch).mel.shape[1] == 128
