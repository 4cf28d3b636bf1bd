"""What transforms, skips and topologies declare beside `forward`, with defaults."""

from typing import ClassVar, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Part(nn.Module):
    """Base of everything that a block is made of.

    options: the constructor's arguments that a recipe may set.
    sees_all: a frame of the output depends on every frame of the input.
    fixed_graph: in evaluation, run the same operations whatever the input is. A traced or exported
        network needs that; `for_export` sets it.
    """

    options: ClassVar[tuple[str, ...]] = ()
    sees_all: ClassVar[bool] = False
    fixed_graph: bool = False


def for_export(model: Module) -> Module:
    """Return `model`, changed in place to run the same operations for every input."""
    for part in model.modules():
        if isinstance(part, Part):
            part.fixed_graph = True
    return model
