"""What transforms, skips and topologies declare beside `forward`, with defaults."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Part(nn.Module):
    """Base of everything that a block is made of.

    The docstring's first paragraph is `formula: source.`, which tables of blocks show. The keyword
    arguments of the constructor, behind `*`, are the options that a recipe may set.

    name: what a recipe calls it.
    sees_all: a frame of the output depends on every frame of the input.
    layer, depth: position in the stack, 1 to depth; the stack calls `set_position`.
    fixed_graph: in evaluation, run the same operations whatever the input is. A traced or exported
        network needs that; `for_export` sets it.
    """

    name: ClassVar[str] = ""
    sees_all: ClassVar[bool] = False
    fixed_graph: bool = False
    layer: int = 1
    depth: int = 1

    def set_position(self, layer: int, depth: int) -> None:
        """Take the position in the stack, once, after construction."""
        self.layer, self.depth = layer, depth

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the options with their defaults, those inherited included."""
        kinds = [kind for kind in reversed(cls.__mro__) if issubclass(kind, Part)]
        return {k: v for kind in kinds for k, v in (kind.__init__.__kwdefaults__ or {}).items()}

    @classmethod
    def described(cls) -> tuple[str, str]:
        """Return the formula and its source; "", "" where the docstring does not begin so."""
        summary = " ".join((cls.__doc__ or "").partition("\n\n")[0].split()).removesuffix(".")
        formula, separator, source = summary.partition(": ")
        return (formula, source) if separator else ("", "")


Axis = TypeVar("Axis", bound=Part)


def members(package: str, path: Iterable[str], base: type[Axis]) -> dict[str, type[Axis]]:
    """Return the subclasses of `base` that the modules of a package define, by name."""
    found: dict[str, type[Axis]] = {}
    for info in pkgutil.iter_modules(path, f"{package}."):
        for value in vars(import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, base) and value.name:
                found[value.name] = value
    return found


def for_export(model: Module) -> Module:
    """Return `model`, changed in place to run the same operations for every input."""
    for part in model.modules():
        if isinstance(part, Part):
            part.fixed_graph = True
    return model
