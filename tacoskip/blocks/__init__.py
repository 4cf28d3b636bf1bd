"""Every skip connection that can stand where CBHG's highway layers stand.

Three axes: a transform F, a skip that joins x and F(x), a topology that says which units see which
outputs; `BLOCKS` names the points of this space that papers have. The contract of what
`build_block` returns: `forward(x (B, T, C), mask (B, T)) -> (B, T, C)`, T unchanged, output zero at
padded frames, and no padded frame ever reaches a real one: in eval mode an item alone equals itself
in a padded batch, in training mode more padding changes neither output nor gradient.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import nn

from tacoskip.blocks.gates import prune, sparsity
from tacoskip.blocks.skips import SKIPS, WIDENING, Skip
from tacoskip.blocks.topologies import JOINS, TOPOLOGIES
from tacoskip.blocks.transforms import TRANSFORMS, Transform

__all__ = [
    "BLOCKS",
    "SKIPS",
    "TOPOLOGIES",
    "TRANSFORMS",
    "Family",
    "build_block",
    "prune",
    "sparsity",
]


@dataclass(frozen=True)
class Family:
    """A named point: its place on the three axes, its own options, what it computes and its source.

    identity: a new stack gives back what it is given.
    """

    transform: str
    skip: str
    formula: str
    source: str
    topology: str = "chain"
    options: dict[str, Any] = field(default_factory=dict)
    identity: bool = False


BLOCKS: dict[str, Family] = {
    "plain": Family("basic", "none", "ReLU(F(x)), F = BN conv3 ReLU BN conv3", "He 2015"),
    "residual": Family("basic", "add", "ReLU(x + F(x)), F = BN conv3 ReLU BN conv3", "He 2015"),
    "highway": Family(
        "linear",
        "coupled",
        "t*ReLU(Wx) + (1-t)*x, t = sigmoid(Vx - 1)",
        "Srivastava 2015; Tacotron, Wang 2017",
    ),
    "resnet": Family(
        "basic",
        "project",
        "ReLU(BN(Wx) + F(x)), the width doubles half-way",
        "He 2015, option B",
        options={"stages": 2},
    ),
    "zero_pad": Family(
        "basic",
        "zero_pad",
        "ReLU([x, 0] + F(x)), the width doubles half-way",
        "He 2015, option A",
        options={"stages": 2},
    ),
    "preact": Family(
        "preact", "add", "x + conv3 ReLU BN conv3 ReLU BN x", "He 2016", identity=False
    ),
    "bottleneck": Family(
        "bottleneck", "add", "ReLU(x + F(x)), F = BN conv1 ReLU BN conv3 ReLU BN conv1", "He 2015"
    ),
    "wide": Family("wide", "add", "x + F(x), preact, 4 times as wide inside", "Zagoruyko 2016"),
    "resnext": Family("grouped", "add", "bottleneck whose conv3 has 32 groups", "Xie 2017"),
    "inverted": Family(
        "inverted",
        "add",
        "x + F(x), F = BN conv1 ReLU6 BN depthwise3 ReLU6 BN conv1, 6C inside",
        "Sandler 2018",
    ),
    "shuffle": Family(
        "shuffle",
        "add",
        "ReLU(x + F(x)), F = BN grouped1 BN depthwise3 shuffle ReLU BN grouped1",
        "Zhang 2018",
    ),
    "srgan": Family("srgan", "add", "x + BN conv3 PReLU BN conv3 x", "Ledig 2017"),
    "nonlocal": Family(
        "nonlocal", "add", "x + BN W softmax(theta phi') g", "Wang 2018", identity=True
    ),
    "dense": Family(
        "dense",
        "concat",
        "x_l = F([x_0 .. x_l-1]), F = conv3 ReLU BN conv1 ReLU BN; then conv1 ReLU BN",
        "Huang 2017",
        "dense",
    ),
    "densenet": Family(
        "dense",
        "concat",
        "dense in two stages, the width halved between them",
        "Huang 2017",
        "dense",
        {"stages": 2},
    ),
    "reversible": Family(
        "basic",
        "add",
        "y1 = x1 + F(x2), y2 = x2 + G(y1); rebuilt backward",
        "Gomez 2017",
        "reversible",
    ),
    "unet": Family(
        "basic", "concat", "down and up in time, W [long skip, up]", "Ronneberger 2015", "unet"
    ),
    "concat": Family("basic", "concat", "ReLU(W [x, F(x)])", "after Huang 2017"),
    "learned": Family(
        "basic", "learned", "ReLU(alpha x + F(x)), alpha learnt from 1", "after He 2016"
    ),
    "rezero": Family(
        "preact",
        "learned",
        "x + alpha F(x), alpha learnt from 0",
        "Bachlechner 2021",
        options={"skip_on": "transform", "skip_start": 0.0},
        identity=True,
    ),
    "gated": Family("basic", "gated", "ReLU(g x + F(x)), g of each frame", "after Savarese 2017"),
    "dynamic": Family(
        "basic", "dynamic", "ReLU(x + g F(x)), g in {0, 1} of each example", "SkipNet, Wang 2018"
    ),
    "deactivable": Family(
        "basic", "deactivable", "ReLU(x + z F(x)), z learnt, 0 removes the unit", "Louizos 2018"
    ),
    "stochastic": Family(
        "basic", "stochastic", "ReLU(x + b F(x)), b random in training", "Huang 2016"
    ),
    "convnext": Family(
        "convnext", "add", "x + s W GELU W LN depthwise7 x, s from 1e-6", "Liu 2022"
    ),
    "conformer_conv": Family(
        "conformer_conv", "add", "x + W Swish BN depthwise31 GLU W LN x", "Gulati 2020"
    ),
    "squeeze_excite": Family(
        "squeeze_excite", "add", "ReLU(x + s F(x)), s of each channel and utterance", "Hu 2018"
    ),
}


def build_block(
    name: str, channels: int, depth: int, skip: str = "", topology: str = "", **options: object
) -> nn.Module:
    """Build a stack of `depth` units of the family `name`, `channels` wide.

    skip, topology: in place of the family's own. options: of the transform and the topology by
    their names, of the skip with `skip_` before them (`skip_gate_bias`). Raises ValueError for an
    unknown name, an option that nothing here has, and for what does not fit together, with the
    reason.
    """
    family = BLOCKS[_known("block", name, BLOCKS)]
    at = _known("topology", topology or family.topology, TOPOLOGIES)
    joins, reason = JOINS.get(at, ((), ""))
    chosen = skip or family.skip
    if not skip and topology and joins and chosen not in joins:
        chosen = joins[0]  # the family's own skip cannot live there, and none was asked for
    chosen = _known("skip", chosen, SKIPS)
    if joins and chosen not in joins:
        raise ValueError(f"{at} takes the skip {' or '.join(joins)}, got '{chosen}': {reason}")
    options = {**_kept(family, chosen, at), **options}
    if at == "chain" and chosen in WIDENING:
        options.setdefault("stages", 2)
    elif at == "chain" and options.get("stages", 1) != 1:
        raise ValueError(f"stages change the width, which only {' and '.join(WIDENING)} join")
    makers = {
        "transform": TRANSFORMS[family.transform],
        "skip": SKIPS[chosen],
        "at": TOPOLOGIES[at],
    }
    known = {axis: _options(maker) for axis, maker in makers.items()}
    known["skip"] = ["skip_" + option for option in known["skip"]]
    mine: dict[str, dict[str, Any]] = {axis: {} for axis in known}
    for option, value in options.items():
        axis = next((axis for axis in known if option in known[axis]), "")
        if not axis:
            has = ", ".join(option for axis in known.values() for option in axis) or "none"
            raise ValueError(f"block '{name}' has no option '{option}' (it has: {has})")
        mine[axis][option.removeprefix("skip_") if axis == "skip" else option] = value

    def make_transform(a: int, b: int) -> Transform:
        return TRANSFORMS[family.transform](a, b, **mine["transform"])

    def make_skip(a: int, b: int, place: float) -> Skip:
        placed = {"place": place} if "place" in inspect.signature(SKIPS[chosen]).parameters else {}
        return SKIPS[chosen](a, b, **mine["skip"], **placed)

    return TOPOLOGIES[at](channels, depth, make_transform, make_skip, **mine["at"])


def _kept(family: Family, skip: str, topology: str) -> dict[str, Any]:
    """The family's own options, without those of a skip or topology that was replaced."""
    return {
        option: value
        for option, value in family.options.items()
        if (skip == family.skip or not option.startswith("skip_"))
        and (option != "stages" or (topology == family.topology and skip == family.skip))
    }


STRUCTURE = (
    "channels",
    "depth",
    "in_channels",
    "out_channels",
    "make_transform",
    "make_skip",
    "place",
)


def _options(maker: Callable[..., nn.Module]) -> list[str]:
    return [option for option in inspect.signature(maker).parameters if option not in STRUCTURE]


def _known(kind: str, name: str, among: Mapping[str, object]) -> str:
    if name in among:
        return name
    near = get_close_matches(name, among, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown {kind} '{name}'{hint} (known: {', '.join(sorted(among))})")
