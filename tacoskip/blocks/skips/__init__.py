"""Skips: how x meets F(x) again.

A skip is built with the width of x, the width of F(x), and its own options; `forward(x (B, T, in),
transform, mask (B, T)) -> (B, T, out)` calls the transform itself, so that one which decides not to
need it saves its time. What comes out may hold anything at padded frames; the unit masks them.
"""

from collections.abc import Callable

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.skips.coupled import Coupled
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.blocks.skips.fixed import Add, Concat, NoSkip
from tacoskip.blocks.skips.gated import Gated
from tacoskip.blocks.skips.learned import Learned
from tacoskip.blocks.skips.stochastic import Stochastic
from tacoskip.blocks.skips.widening import Project, ZeroPad

SKIPS: dict[str, Callable[..., Skip]] = {
    "none": NoSkip,
    "add": Add,
    "concat": Concat,
    "zero_pad": ZeroPad,
    "project": Project,
    "coupled": Coupled,
    "learned": Learned,
    "gated": Gated,
    "dynamic": Dynamic,
    "deactivable": Deactivable,
    "stochastic": Stochastic,
}
# These join an x to a wider F(x), so a chain of them widens by stages.
WIDENING = ("zero_pad", "project")
