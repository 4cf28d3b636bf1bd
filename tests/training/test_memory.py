"""Batches that memory does not hold at once are split by rows."""

from typing import Any

import pytest
import torch

from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.run_folder import build_tacotron
from tacoskip.training.memory import BatchSplitter, OutOfMemory, is_out_of_memory, rows_of
from tacoskip.training.tasks.tts import VoiceTask

from .two_processes import SYMBOLS, random_batch

LOCAL = "tts.prenet_dropout=0", "tts.frame_dropout=0", "data.root=."


class Voice:
    """Gradients of a voice, for at most `memory` rows at once."""

    def __init__(self, several: bool = False) -> None:
        self.task, self.memory = VoiceTask.__new__(VoiceTask), 99
        self.task.config = load_config("smoke", [*LOCAL])
        torch.manual_seed(0)
        self.model = self.task.model = build_tacotron(self.task.config, SYMBOLS, 1).double()
        self.tried: list[int] = []
        self.messages: list[str] = []
        self.splitter = BatchSplitter(
            *(self.model, self.compute, torch.device("cpu"), several),
            lambda message, warning=False: self.messages.append(message),
        )

    def compute(self, batch: Batch, totals: dict[str, float]) -> tuple[dict[str, Any], Any]:
        self.tried.append(len(batch))
        output = self.task.forward(self.model, batch)
        if len(batch) > self.memory:
            raise torch.OutOfMemoryError("out of memory")
        counts = self.task.counts(batch)
        losses = {
            name: value * counts[name] / totals[name]
            for name, value in self.task.losses(output, batch).items()
        }
        torch.stack(list(losses.values())).sum().backward()
        return losses, output


@pytest.fixture
def batch() -> Batch:
    return random_batch(load_config("smoke", [*LOCAL]), 5)


def gradients(voice: Voice) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in voice.model.named_parameters() if p.grad is not None}


def test_the_gradient_of_parts_is_the_sum_of_their_shares(batch: Batch) -> None:
    split, expected = Voice(), Voice()
    split.memory = 3
    totals = split.task.counts(batch)
    *_, parts = split.splitter.gradients(batch, totals)
    assert parts == 2 and split.tried == [5, 3, 2]
    for number in range(2):
        expected.compute(rows_of(batch, number, 2), totals)
    torch.testing.assert_close(gradients(split), gradients(expected), atol=0, rtol=0)
    for one, other in zip(split.model.buffers(), expected.model.buffers(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_part_of_a_batch_has_no_needless_padding(batch: Batch) -> None:
    parts = [rows_of(batch, number, 2) for number in range(2)]
    assert [part.ids for part in parts] == [["clip0", "clip2", "clip4"], ["clip1", "clip3"]]
    assert parts[1].mel.shape[1] == parts[1].linear.shape[1] == 9
    assert parts[1].symbols.shape == (2, 3)
    assert torch.equal(parts[1].mel, batch.mel[1::2, :9])


def test_a_trial_changes_nothing_but_the_limit(batch: Batch) -> None:
    voice = Voice()
    voice.memory, totals = 2, voice.task.counts(batch)
    before = [value.clone() for value in voice.model.buffers()]
    random = torch.get_rng_state()
    voice.splitter.try_batch(batch, totals, 2)
    assert voice.tried == [5, 3, 2, 1, 1, 1] and not gradients(voice)
    assert all(map(torch.equal, before, voice.model.buffers()))
    assert torch.equal(random, torch.get_rng_state())
    voice.tried.clear()
    assert voice.splitter.gradients(batch, totals)[2] == 4 and voice.tried == [2, 1, 1, 1]
    (message,) = voice.messages
    assert message.startswith("no memory for 5 clips of up to 23 frames (clip0, ...): the batch")


@pytest.mark.parametrize("several", [False, True])
def test_batch_that_cannot_be_split_names_the_setting(several: bool, batch: Batch) -> None:
    voice = Voice(several)
    voice.memory = 0
    with pytest.raises(OutOfMemory, match=r"no memory for 5 clips .*: lower data.batch_seconds"):
        voice.splitter.gradients(batch, voice.task.counts(batch))
    assert len(voice.tried) == (1 if several else 4)


def test_errors_that_mean_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
