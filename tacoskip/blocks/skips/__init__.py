"""Skips: how x meets F(x) again. The contract is the docstring of `base.Skip`."""

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.skips.coupled import Coupled
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.blocks.skips.fixed import Add, Concat, NoSkip
from tacoskip.blocks.skips.gated import Gated
from tacoskip.blocks.skips.learned import Learned
from tacoskip.blocks.skips.stochastic import Stochastic
from tacoskip.blocks.skips.widening import Project, ZeroPad

SKIPS: dict[str, type[Skip]] = {
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
