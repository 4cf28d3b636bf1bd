"""Families: the points of transform x skip x topology that papers have, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.topologies.base import Topology
from tacoskip.blocks.transforms.base import Transform


@dataclass(frozen=True)
class Family:
    """A point of the three axes: on each a name, or a class of one's own.

    options: of the transform and the topology by their names, of the skip with `skip_` before them.
    identity: a new stack returns its input.
    make: called with (channels, depth, **options), returns a whole stack in place of the axes; it
        keeps the contract of `tacoskip.blocks.topologies.base.Topology`.
    """

    transform: str | type[Transform] = ""
    skip: str | type[Skip] = ""
    formula: str = ""
    source: str = ""
    topology: str | type[Topology] = "chain"
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: bool = False
    make: Callable[..., nn.Module] | None = None


BLOCKS: dict[str, Family] = {
    "plain": Family("basic", "none", "ReLU(F(x)), F = BN conv3 ReLU BN conv3", "He 2015"),
    "residual": Family("basic", "add", "ReLU(x + F(x)), F = BN conv3 ReLU BN conv3", "He 2015"),
    "highway": Family(
        "linear",
        "coupled",
        "t ReLU(Wx) + (1-t) x, t = sigmoid(Vx - 1)",
        "Srivastava 2015; Wang 2017",
    ),
    "resnet": Family(
        "basic", "project", "ReLU(BN(Wx) + F(x)), twice as wide half-way", "He 2015, option B"
    ),
    "zero_pad": Family(
        "basic", "zero_pad", "ReLU([x, 0] + F(x)), twice as wide half-way", "He 2015, option A"
    ),
    "preact": Family("preact", "add", "x + conv3 ReLU BN conv3 ReLU BN x", "He 2016"),
    "bottleneck": Family(
        "bottleneck", "add", "ReLU(x + F(x)), F = BN conv1 ReLU BN conv3 ReLU BN conv1", "He 2015"
    ),
    "wide": Family("wide", "add", "x + F(x), preact, 4 times as wide inside", "Zagoruyko 2016"),
    "resnext": Family("grouped", "add", "bottleneck whose conv3 has 32 groups", "Xie 2017"),
    "inverted": Family(
        "inverted",
        "add",
        "x + BN conv1 ReLU6 BN depthwise3 ReLU6 BN conv1 x, 6C wide",
        "Sandler 2018",
    ),
    "shuffle": Family(
        "shuffle", "add", "bottleneck of grouped1, channel shuffle, depthwise3", "Zhang 2018"
    ),
    "srgan": Family("srgan", "add", "x + BN conv3 PReLU BN conv3 x", "Ledig 2017"),
    "nonlocal": Family(
        "nonlocal", "add", "x + BN W softmax(theta phi') g", "Wang 2018", identity=True
    ),
    "dense": Family(
        "dense", "concat", "x_l = conv3 ReLU BN conv1 ReLU BN [x_0 .. x_l-1]", "Huang 2017", "dense"
    ),
    "densenet": Family(
        "dense", "concat", "dense, half as wide half-way", "Huang 2017", "dense", {"stages": 2}
    ),
    "reversible": Family(
        "basic", "add", "y1 = x1 + F(x2), y2 = x2 + G(y1)", "Gomez 2017", "reversible"
    ),
    "unet": Family(
        "basic", "concat", "down and up in time, W [long skip, up]", "Ronneberger 2015", "unet"
    ),
    "concat": Family("basic", "concat", "ReLU(W [x, F(x)])", "after Huang 2017"),
    "learned": Family("basic", "learned", "ReLU(alpha x + F(x)), alpha from 1", "after He 2016"),
    "rezero": Family(
        "preact",
        "learned",
        "x + alpha F(x), alpha from 0",
        "Bachlechner 2021",
        options={"skip_on": "transform", "skip_start": 0.0},
        identity=True,
    ),
    "gated": Family("basic", "gated", "ReLU(g x + F(x)), g of each frame", "after Savarese 2017"),
    "dynamic": Family(
        "basic", "dynamic", "ReLU(x + g F(x)), g in {0, 1} of each example", "SkipNet, Wang 2018"
    ),
    "deactivable": Family(
        "basic", "deactivable", "ReLU(x + z F(x)), z learned, 0 removes the unit", "Louizos 2018"
    ),
    "stochastic": Family("basic", "stochastic", "ReLU(x + b F(x)), b random", "Huang 2016"),
    "convnext": Family(
        "convnext", "add", "x + s W GELU W LN depthwise7 x, s from 1e-6", "Liu 2022"
    ),
    "conformer_conv": Family(
        "conformer_conv", "add", "x + W Swish BN depthwise31 GLU W LN x", "Gulati 2020"
    ),
    "squeeze_excite": Family(
        "squeeze_excite", "add", "ReLU(x + s F(x)), s of each channel", "Hu 2018"
    ),
}
