"""Families that live outside tacoskip: `package.module:Name`, or an entry point of a package.

    block=my_package.my_module:MyFamily      importable: installed, or its folder on PYTHONPATH

    [project.entry-points."tacoskip.blocks"]
    my_family = "my_package.my_module:MyFamily"          then block=my_family

`MyFamily` is a `Family`, or a callable `(channels, depth, **options)` that returns a whole stack.
Its name is code that runs when it is imported. A name that the user typed is trusted, and so is an
entry point of a package that the user installed. A name that only a checkpoint or a saved
config.yaml gives is not: see `is_trusted`.
"""

import importlib
import os
from collections.abc import Callable
from importlib import metadata

from tacoskip.blocks.families import BLOCKS, Family
from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.transforms.base import Transform

GROUP = "tacoskip.blocks"
TRUSTED = "TACOSKIP_BLOCKS"  # names that checkpoints may use, with commas between them


def entry_points() -> dict[str, metadata.EntryPoint]:
    """Return the entry points that installed packages have, by name."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def is_external(name: str) -> bool:
    """Whether a block's name is `package.module:Name` or an entry point."""
    return name not in BLOCKS and (":" in name or name in entry_points())


def is_trusted(name: str) -> bool:
    """Whether a name may be imported that came with a file, such as a checkpoint."""
    return ":" not in name or name in os.environ.get(TRUSTED, "").split(",")


def trust(name: str) -> None:
    """Let checkpoints use a name that the user gave, in this process and those it starts."""
    if not is_trusted(name):
        os.environ[TRUSTED] = ",".join([*filter(None, [os.environ.get(TRUSTED)]), name])


def load_family(name: str) -> Family:
    """Import an external family. Raises ValueError, in one line, where that fails."""
    point = entry_points().get(name)
    target = point.value if point else name
    module, _, attribute = target.partition(":")
    try:
        loaded = point.load() if point else getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is foreign code and may fail in any way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = " (install it, or put its folder on PYTHONPATH)" if not point else ""
        raise ValueError(f"cannot import block '{name}': {reason}{hint}") from None
    if isinstance(loaded, Family):
        return loaded
    if isinstance(loaded, type) and issubclass(loaded, Transform | Skip):
        raise ValueError(f"block '{name}': expected a Family around it, got {loaded.__name__}")
    if not callable(loaded):
        kind = type(loaded).__name__
        raise ValueError(f"block '{name}': expected a Family or a callable, got {kind}")
    formula = (loaded.__doc__ or "").strip().partition("\n")[0]
    return Family(formula=formula, source=target, topology="", make=loaded)


def all_families(warn: Callable[[str], None]) -> dict[str, Family]:
    """Return tacoskip's families and those of entry points; `warn` gets a line for a broken one."""
    families = dict(BLOCKS)
    for name, point in entry_points().items():
        try:
            families.setdefault(name, load_family(name))
        except ValueError as error:
            package = point.dist.name if point.dist else point.value
            warn(f"package {package}: {error}")
    return families
