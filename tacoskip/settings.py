"""A setting: a dataclass field whose metadata holds its help, its choices and its bounds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from tacoskip.messages import known

LARGEST = 1e12  # what asks for more is a slip
LARGEST_SIZE = 65_536  # of a network's width, depth or count: more would take a machine's memory


@dataclass(frozen=True)
class Bounds:
    """What a setting may be. Bounds hold for a number, and for each number of a list.

    choices: the texts allowed, alone or in a list (a function where they are a registry's names).
    others: whether a text that is no choice is allowed; it is checked where it is used.
    least, most are inclusive; above, below exclusive.
    """

    help: str
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    least: float = 0
    most: float = LARGEST
    above: float | None = None
    below: float | None = None
    others: Callable[[str], bool] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.choices() if callable(self.choices) else self.choices

    def expected(self, value: float) -> str:
        """Say what was expected of a number out of bounds; "" for one within."""
        if self.above is not None and value <= self.above:
            return f"above {self.above:g}"
        if self.below is not None and value >= self.below:
            return f"below {self.below:g}"
        if not value >= self.least:  # true for NaN too
            return f"of at least {self.least:g}"
        return f"of at most {self.most}" if value > self.most else ""


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """Return a dataclass field with its help, choices and bounds; see `Bounds`.

    A default that is a list or a dict is copied for each object.
    """
    metadata = {"setting": Bounds(help, **bounds)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def size(default: int, help: str, least: int = 1) -> Any:
    """Return the field of a network's width, depth or count."""
    return setting(default, help, least=least, most=LARGEST_SIZE)


def check(settings: Any, prefix: str = "") -> None:
    """Raise ValueError for the first setting out of its bounds or not among its choices.

    settings: a dataclass of settings. prefix: stands before the names in the message.
    """
    for each in fields(settings):
        bounds, value = each.metadata.get("setting"), getattr(settings, each.name)
        if bounds is None:
            continue
        for text in (value if isinstance(value, list) else [value]) if bounds.choices else ():
            if text not in bounds.names and not (bounds.others and bounds.others(text)):
                known(f"{prefix}{each.name}", text, [name for name in bounds.names if name])
        for number in _numbers(value):
            if expected := bounds.expected(number):
                raise ValueError(f"expected {prefix}{each.name} {expected}, got {value}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
