"""Every family through torch.export and torch.jit.trace, on lengths other than the example's."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS, build_block, for_export, prune
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*deprecated.*torch.export:FutureWarning", "ignore::torch.jit.TracerWarning"
)
ANY = torch.export.Dim.DYNAMIC  # a size that the call may not fix; export fails where it does


def example(batch: int, frames: int) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([frames, frames // 2, 2, 1])[:batch]
    return torch.randn(batch, frames, 8), lengths_to_mask(lengths, frames)


def ready(block: nn.Module) -> nn.Module:
    """Evaluation, with weights and statistics that show what is left out."""
    with torch.no_grad():
        for tensor in block.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor) + 0.05)
    return block.eval()


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    sizes = {0: ANY, 1: ANY}
    fixed = for_export(copy.deepcopy(module))
    return torch.export.export(fixed, example(3, 11), dynamic_shapes=(sizes, sizes))


def traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    return torch.jit.trace(for_export(copy.deepcopy(module)), inputs, check_trace=False)


@torch.no_grad()
def check_equal(exported: nn.Module, module: nn.Module) -> None:
    # Longer and shorter, odd and even, one item and more than the example.
    for batch, frames in ((3, 24), (1, 7), (4, 33)):
        inputs = example(batch, frames)
        torch.testing.assert_close(exported(*inputs), module(*inputs))


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    stages = ("unet", "densenet", "resnet", "zero_pad")  # what these do shows in two units
    return ready(build_block(name, 8, 2 if name in stages else 1))


# One of each topology, and what chooses or attends; the others take a minute more.
QUICK = {family.topology: name for name, family in reversed(BLOCKS.items())}.values()
QUICK = {*QUICK, "dynamic", "deactivable", "nonlocal", "resnet"}
EXPORTED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BLOCKS]


@pytest.mark.parametrize("name", EXPORTED)
def test_torch_export_of_every_family(name: str) -> None:
    block = small(name)
    check_equal(exported(block).module(), block)


@pytest.mark.parametrize("name", BLOCKS)
def test_trace_of_every_family(name: str) -> None:
    block = small(name)
    check_equal(traced(block, example(3, 11)), block)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_exported_dynamic_unit_still_chooses(sign: float) -> None:
    """A trace of examples that all use the unit, or none, holds for a mixture."""
    torch.manual_seed(0)
    block = ready(build_block("dynamic", 8, 1))
    gate = block.units[0].skip.gate  # type: ignore[union-attr,index]
    with torch.no_grad():  # open where the mean of the first channel is above zero
        for layer, rows in ((gate[0], [[1.0] + 7 * [0], [-1.0] + 7 * [0]]), (gate[2], [[1.0, -1]])):  # type: ignore[index]
            layer.weight.copy_(torch.tensor(rows))
            layer.bias.zero_()
    (x, mask), high = example(3, 11), torch.tensor([9.0, -9.0, 9.0])[:, None, None]
    inputs = (x + 9 * sign, mask)
    fixed = for_export(copy.deepcopy(block))
    programs = torch.export.export(fixed, inputs).module(), traced(block, inputs)
    expected = block(x + high, mask)
    assert [int(row.any()) for row in expected - torch.relu((x + high) * mask[:, :, None])] == [
        1,
        0,
        1,
    ]
    for program in programs:
        torch.testing.assert_close(program(x + high, mask), expected)


def test_pruned_units_are_not_exported() -> None:
    torch.manual_seed(0)
    block = ready(build_block("deactivable", 8, 2))
    whole = len(exported(block).state_dict)
    block.units[0].skip.log_alpha.data.fill_(-4.0)  # type: ignore[union-attr,index]
    assert prune(block) == 1
    program = exported(block)
    assert len(program.state_dict) == whole // 2
    check_equal(program.module(), block)


def test_exported_block_survives_saving() -> None:
    block, file = small("residual"), io.BytesIO()
    torch.export.save(exported(block), file)
    file.seek(0)
    check_equal(torch.export.load(file).module(), block)


def cbhg(**parts: bool) -> CBHGSettings:
    return CBHGSettings(
        bank_size=4, bank_channels=6, projection_channels=7, channels=8, gru_channels=4, **parts
    )


def test_trace_of_cbhg_and_export_without_its_gru() -> None:
    torch.manual_seed(0)
    whole, without = ready(CBHG(8, cbhg())), ready(CBHG(8, cbhg(gru=False)))
    check_equal(traced(whole, example(3, 11)), whole)
    check_equal(exported(without).module(), without)


def test_trace_of_the_encoder() -> None:
    torch.manual_seed(0)
    settings = TacotronSettings(embedding_channels=6, prenet_channels=[8, 8])
    encoder = ready(Encoder(20, settings, cbhg()))

    def symbols(batch: int, length: int) -> tuple[Tensor, Tensor]:
        _, mask = example(batch, length)
        return torch.randint(1, 20, (batch, length)).masked_fill(~mask, 0), mask

    program = traced(encoder, symbols(3, 11))
    for batch, length in ((3, 24), (1, 7)):
        inputs = symbols(batch, length)
        torch.testing.assert_close(program(*inputs), encoder(*inputs))
