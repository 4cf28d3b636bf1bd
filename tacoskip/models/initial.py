"""First weights that do not depend on what else a network is made of."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_draws() -> Iterator[None]:
    """Draw what is built inside from a generator of its own, seeded by one draw from the common
    one.

    Whatever stands inside, and however large it is, the parts built after it start as they would
    have without it: two networks of one seed that differ in one part are equal in all others.
    """
    seed = int(torch.randint(1 << 62, (), device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
