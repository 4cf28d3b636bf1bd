"""Units against independent implementations for images: torchvision, pytorchcv, torchaudio.

An image one pixel high is a sequence: of a 3 x 3 kernel only the middle row matters, so that row
takes our weights. No frame is padded here; outputs, batch statistics and gradients must agree, in
training and in evaluation.
"""

from collections.abc import Callable

import pytest
import torch
from pytorchcv.models.preresnet import PreResUnit
from pytorchcv.models.seresnet import SEResUnit
from pytorchcv.models.shufflenet import ShuffleUnit
from torch import Tensor, nn
from torchaudio.models.conformer import _ConvolutionModule
from torchvision.models.convnext import CNBlock
from torchvision.models.densenet import _DenseBlock, _Transition
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.shufflenetv2 import channel_shuffle

from tacoskip.blocks import TRANSFORMS, Unit, build_block
from tacoskip.blocks.skips.widening import Project
from tacoskip.blocks.transforms.shuffle import Shuffle

BATCH, FRAMES = 3, 11
LEAVES = nn.Conv1d | nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm
Pair = tuple[nn.Module, nn.Module]


def project() -> Pair:
    downsample = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))
    # Here the shortcut's parts come last, in torchvision's too.
    return Unit(TRANSFORMS["basic"](8, 16), Project(8, 16)), BasicBlock(8, 16, 1, downsample)


def dense() -> Pair:
    """Three layers and a transition, whose pooling is left out here."""
    transition = _Transition(8 + 3 * 4, 8)
    transition.pool = nn.Identity()
    theirs = nn.Sequential(_DenseBlock(3, 8, bn_size=4, growth_rate=4, drop_rate=0), transition)
    return build_block("dense", 8, 3, growth=4), theirs


def squeeze_excite() -> Pair:
    theirs = SEResUnit(16, 16, 1, bottleneck=False, conv1_stride=False)
    return build_block("squeeze_excite", 16, 1), theirs


PAIRS: dict[str, tuple[Callable[[], Pair], int]] = {
    "residual": (
        lambda: (build_block("residual", 8, 2), nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))),
        8,
    ),
    "project": (project, 8),
    "preact": (
        lambda: (build_block("preact", 8, 1), PreResUnit(8, 8, 1, bottleneck=False)),
        8,
    ),
    "bottleneck": (lambda: (build_block("bottleneck", 16, 1), Bottleneck(16, 4)), 16),
    "resnext": (
        lambda: (build_block("resnext", 64, 1), Bottleneck(64, 16, groups=32, base_width=4)),
        64,
    ),
    "inverted": (lambda: (build_block("inverted", 8, 1), InvertedResidual(8, 8, 1, 6)), 8),
    "shuffle": (
        lambda: (build_block("shuffle", 64, 1), ShuffleUnit(64, 64, 4, False, False)),
        64,
    ),
    "dense": (dense, 8),
    "squeeze_excite": (squeeze_excite, 16),
    "convnext": (lambda: (build_block("convnext", 8, 1), CNBlock(8, 0.5, 0.0)), 8),
    "conformer_conv": (
        lambda: (TRANSFORMS["conformer_conv"](8, 8), _ConvolutionModule(8, 8, 31)),
        8,
    ),
}


def leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, LEAVES)]


def as_theirs(name: str, mine: Tensor, theirs: Tensor) -> Tensor:
    """My tensor in the shape of theirs: the middle row of a kernel, a 1 x 1 kernel, or as it is."""
    if mine.dim() == 3 and theirs.dim() == 4:
        whole = torch.randn_like(theirs)
        whole[:, :, theirs.shape[2] // 2] = mine
        return whole
    return mine.reshape(theirs.shape)


@torch.no_grad()
def share(mine: nn.Module, theirs: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Give both the same random weights and statistics; returns the layers that correspond."""
    pairs = list(zip(leaves(mine), leaves(theirs), strict=True))
    for ours, other in pairs:
        state, target = ours.state_dict(), other.state_dict()
        assert set(target) <= set(state)
        for name, value in state.items():
            if name == "running_var":
                value.uniform_(0.5, 2)
            elif isinstance(ours, nn.BatchNorm1d) and value.is_floating_point():
                value.normal_(0.0, 3.0)  # so that a ReLU6 cuts
            elif value.is_floating_point():
                value.normal_(0.0, 0.5)
            if name in target:
                target[name].copy_(as_theirs(name, value, target[name]))
            else:
                value.zero_()  # a bias that they do without
    return pairs


def image(x: Tensor) -> Tensor:
    return x.transpose(1, 2)[:, :, None]  # (B, T, C) -> (B, C, 1, T)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", PAIRS)
def test_unit_equals_the_independent_implementation(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, channels = PAIRS[name]
    mine, theirs = (module.double().train(training) for module in make())
    pairs = share(mine, theirs)
    if name == "convnext":
        mine.units[0].transform.scale.data.fill_(0.5)  # type: ignore[index,union-attr]
    x = torch.randn(BATCH, FRAMES, channels, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    output = mine(x, torch.ones(BATCH, FRAMES, dtype=torch.bool))
    flat = name == "conformer_conv"  # written for (B, T, C)
    expected = theirs(y) if flat else theirs(image(y)).squeeze(2).transpose(1, 2)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    assert output.std() > 0.1
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-5)
    for ours, other in pairs:
        for buffer, value in other.named_buffers():
            torch.testing.assert_close(dict(ours.named_buffers())[buffer], value)
        for parameter, value in other.named_parameters():
            grad, wanted = dict(ours.named_parameters())[parameter].grad, value.grad
            assert grad is not None and wanted is not None
            if grad.dim() == 3 and wanted.dim() == 4:
                wanted = wanted[:, :, wanted.shape[2] // 2]
            torch.testing.assert_close(grad, wanted.reshape(grad.shape), atol=1e-5, rtol=1e-5)


def test_srgan_equals_figure_4_of_the_paper() -> None:
    """Figure 4 of the paper: k3 n64, BN, PReLU, k3 n64, BN, elementwise sum."""
    torch.manual_seed(0)
    mine = build_block("srgan", 8, 1)
    theirs = nn.Sequential(
        nn.Conv1d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm1d(8),
        nn.PReLU(),
        nn.Conv1d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm1d(8),
    )
    share(mine, theirs)
    x = torch.randn(BATCH, FRAMES, 8)
    expected = x + theirs(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(mine(x, torch.ones(BATCH, FRAMES, dtype=torch.bool)), expected)


def test_channel_shuffle_equals_torchvisions() -> None:
    """Seen through layers that pass their input on."""
    torch.manual_seed(0)
    unit, channels = Shuffle(24, 24, reduction=1, groups=4).eval(), 24
    with torch.no_grad():
        for conv in (unit.conv1, unit.conv3):
            conv.weight.copy_(torch.eye(channels // 4).repeat(4, 1)[:, :, None])
        unit.conv2.weight.copy_(torch.tensor([0.0, 1.0, 0.0]))
        for norm in (unit.norm1, unit.norm2, unit.norm3):
            norm.eps = 0.0
    x = torch.rand(BATCH, FRAMES, channels)
    output = unit(x, torch.ones(BATCH, FRAMES, dtype=torch.bool))
    torch.testing.assert_close(output, channel_shuffle(image(x), 4).squeeze(2).transpose(1, 2))


def frame_by_frame(unit: nn.Module, x: Tensor, pairwise: str) -> Tensor:
    """Wang et al. 2018, section 3, one frame at a time: x (T, C) -> (T, C), before the last BN."""
    g = [unit.value(frame) for frame in x]
    rows = []
    for i in range(len(x)):
        f = []
        for j in range(len(x)):
            if pairwise == "gaussian":
                f.append(torch.exp(x[i] @ x[j]))
            elif pairwise == "embedded":
                f.append(torch.exp(unit.theta(x[i]) @ unit.phi(x[j])))
            elif pairwise == "dot":
                f.append(unit.theta(x[i]) @ unit.phi(x[j]))
            else:
                both = torch.cat([unit.theta(x[i]), unit.phi(x[j])])
                w = torch.cat([unit.weigh_theta.weight[0], unit.weigh_phi.weight[0]])
                f.append(torch.relu(w @ both))
        normaliser = sum(f) if pairwise in ("gaussian", "embedded") else len(x)
        y = torch.stack([weight * value for weight, value in zip(f, g, strict=True)]).sum(0)
        rows.append(unit.out(y / normaliser))
    return torch.stack(rows)


@pytest.mark.parametrize("pairwise", ["gaussian", "embedded", "dot", "concatenation"])
def test_nonlocal_equals_the_formula_frame_by_frame(pairwise: str) -> None:
    torch.manual_seed(0)
    unit = build_block("nonlocal", 6, 1, pairwise=pairwise).double().units[0].transform  # type: ignore[union-attr,index]
    nn.init.uniform_(unit.norm.weight, 0.5, 2)
    lengths = [5, 3]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    before = [frame_by_frame(unit, row[:n], pairwise) for row, n in zip(x, lengths, strict=True)]
    norm = nn.BatchNorm1d(6).double()
    norm.load_state_dict(unit.norm.state_dict())
    torch.testing.assert_close(unit(x, mask)[mask], norm(torch.cat(before)))


def test_nonlocal_equals_attention_with_one_head() -> None:
    """With the scale of 1/sqrt(d) taken out of theta, it is torch's multi-head attention."""
    torch.manual_seed(0)
    unit = build_block("nonlocal", 6, 1, reduction=1).double().eval().units[0].transform  # type: ignore[union-attr,index]
    unit.norm.weight.data.fill_(1.0)
    unit.norm.eps = 0.0
    attention = nn.MultiheadAttention(6, 1, batch_first=True).double()
    with torch.no_grad():
        parts = unit.theta, unit.phi, unit.value
        scales = 6**0.5, 1.0, 1.0
        pairs = list(zip(parts, scales, strict=True))
        attention.in_proj_weight.copy_(torch.cat([p.weight * s for p, s in pairs]))
        attention.in_proj_bias.copy_(torch.cat([p.bias * s for p, s in pairs]))
    attention.out_proj = unit.out
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    expected, _ = attention(x, x, x, key_padding_mask=~mask)
    torch.testing.assert_close(unit(x, mask)[mask], expected[mask])
