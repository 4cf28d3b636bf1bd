"""Types of settings, and checks that span several of them, on dotted keys (`train.max_steps`).

A setting's own bounds and choices stand in its field's metadata (`tacoskip.settings`).
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from tacoskip.messages import nearest, nearest_name
from tacoskip.models.settings import CBHGSettings
from tacoskip.settings import Bounds, check

if TYPE_CHECKING:
    from tacoskip.config import Config

SELECT = {"tts": ("mcd_db", "alignment", "loss", "cer_by_asr"), "asr": ("cer", "wer", "loss")}

# Sections that only one task uses: for the other task they keep their defaults.
SECTIONS = {"tts": ("tts", "postnet", "griffin_lim"), "asr": ("asr", "augment")}


class ConfigError(ValueError):
    """A request that cannot be met: one line naming the key, what was expected, the nearest."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # also where a key or value holds lines


def field_kinds(cls: type, prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> type of every field; a section's type is its dataclass."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(cls).items():
        kinds[prefix + name] = kind
        if isinstance(kind, type) and is_dataclass(kind):
            kinds |= field_kinds(kind, f"{prefix}{name}.")
    return kinds


def all_settings(config: "Config") -> Iterator[tuple[str, Any, Bounds]]:
    """Yield (dotted key, value, bounds) of every setting."""
    for name, value in vars(config).items():
        if is_dataclass(value):
            for each in fields(value):
                yield f"{name}.{each.name}", getattr(value, each.name), each.metadata["setting"]
        elif name not in ("recipe", "from_run"):
            yield name, value, type(config).__dataclass_fields__[name].metadata["setting"]


def flatten(
    layer: dict[str, Any], kinds: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) down to the fields; a field that is a dict stays whole."""
    for name, value in layer.items():
        key = f"{prefix}{name}"
        kind = kinds.get(key)
        filled = isinstance(value, dict) and (bool(value) or is_dataclass(kind))
        if filled and get_origin(kind) is not dict:  # `unknown: {}` is no section
            yield from flatten(value, kinds, f"{key}.")
        elif value is not None or not is_dataclass(kind):  # `train:` and no line below
            yield key, value


def convert(key: str, value: Any, kind: Any) -> Any:
    """Return a value as the type of its field; ConfigError where it is another."""
    try:
        return _as_kind(value, kind)
    except (TypeError, OverflowError):
        got = "nothing" if value is None else repr(value)
        raise ConfigError(f"expected {_kind_name(kind)} for '{key}', got {got}") from None


def _as_kind(value: Any, kind: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if get_origin(kind) is list and isinstance(value, list):
        return [_as_kind(item, get_args(kind)[0]) for item in value]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {str(name): _as_kind(one, get_args(kind)[1]) for name, one in value.items()}
    if kind is int and number and value == value // 1:  # yaml's 1e5 is a float
        return int(value)
    if kind is float and number:
        return float(value)
    if kind is str and (number or isinstance(value, str)):
        return str(value)
    if (kind is bool or isinstance(kind, UnionType)) and isinstance(value, kind):
        return value
    raise TypeError


def _kind_name(kind: Any) -> str:
    """Return a field's type in words."""
    if get_origin(kind) is list:
        many = {int: "whole numbers", float: "numbers", str: "texts"}
        return f"a list [...] of {many.get(get_args(kind)[0], 'lists')}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "options as {name: value}")


def check_key(key: str, kinds: dict[str, Any]) -> None:
    """Raise ConfigError unless `key` is a field for a value, or an option in one."""
    parent = key.rpartition(".")[0]
    if is_dataclass(kinds.get(key)):
        raise ConfigError(f"'{key}' is a section of keys: {', '.join(get_type_hints(kinds[key]))}")
    if key in kinds or get_origin(kinds.get(parent)) is dict:
        return
    if parent in kinds and not is_dataclass(kinds[parent]):
        raise ConfigError(f"expected {_kind_name(kinds[parent])} for '{parent}', got '{key}'")
    raise ConfigError(f"unknown key '{key}'{_nearest_key(key, kinds)}")


def _nearest_key(key: str, kinds: dict[str, Any]) -> str:
    """Name the field meant: the section forgotten, a slip anywhere, a slip and a wrong section."""
    leaves = {known.rpartition(".")[2]: known for known in reversed(kinds)}
    leaf = key.rpartition(".")[2]
    near = leaves.get(leaf) or nearest_name(key, kinds, cutoff=0.7)
    near = near or leaves.get(nearest_name(leaf, leaves, cutoff=0.6), "")
    sections = ", ".join(name for name, kind in kinds.items() if is_dataclass(kind))
    return f"; did you mean '{near}'?" if near else f" (sections: {sections})"


def check_values(config: "Config") -> None:
    """Raise ConfigError for a value of the right type that no run can have."""
    try:
        check(config)
        for name, section in vars(config).items():
            if is_dataclass(section):
                check(section, f"{name}.")
        for key in config.ablation:
            check_key(key, field_kinds(type(config)))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _check_task(config)


def _check_task(config: "Config") -> None:
    plain, this = type(config)(), f"this is task={config.task}"
    others = {name: task for task in SECTIONS for name in SECTIONS[task] if task != config.task}
    for section, task in others.items():
        default = vars(getattr(plain, section))
        for name, value in vars(getattr(config, section)).items():
            if value != default[name]:
                raise ConfigError(f"'{section}.{name}' is of task={task}, and {this}")
    select, names = config.train.select, SELECT[config.task]
    if select not in names:
        hint = f"{nearest(select, names)} (known: {', '.join(names)})"
        raise ConfigError(f"unknown train.select '{select}'{hint}")
    if select == "cer_by_asr" and not config.train.judge:
        raise ConfigError("expected train.judge=ASR_RUN with train.select=cer_by_asr, got none")
    if config.task == "tts" and config.tts.attention == "durations" and config.data.join != [1, 1]:
        got = f"with tts.attention=durations, got {config.data.join}"
        raise ConfigError(f"expected data.join=[1, 1] {got}")
    if config.task == "asr" and config.train.judge:
        raise ConfigError(f"'train.judge' is of task=tts, and {this}")
    if config.task == "asr" and config.text.symbols != "characters":
        raise ConfigError(f"expected text.symbols=characters, got {config.text.symbols}")


def check_stack(settings: CBHGSettings) -> None:
    """Raise ConfigError for a stack that cannot be built; it is built once, without memory."""
    import torch

    from tacoskip.blocks import build_block

    sizes = settings.stack_channels, min(settings.depth, 2)
    axes, options = (settings.skip, settings.topology), dict[str, Any](settings.block_options)
    with torch.device("meta"):
        try:
            build_block(settings.block, *sizes, *axes, **options)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        except (RuntimeError, TypeError, ArithmeticError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"block '{settings.block}' cannot be built: {reason}") from None
