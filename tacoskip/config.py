"""The settings of a run: composed from dataclasses, loaded from recipes, checked, saved.

Order: the dataclasses' defaults, the chain of base recipes, the recipe, the command line; the
later wins. `${key}` in a text stands for the value of another key; nothing else is looked up.
"""

import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tacoskip.audio.settings import AudioSettings, GriffinLimSettings
from tacoskip.config_checks import (
    SECTIONS,
    ConfigError,
    check_key,
    check_stack,
    check_values,
    convert,
    field_kinds,
    flatten,
)
from tacoskip.data.settings import AugmentSettings, DataSettings
from tacoskip.files import write_whole
from tacoskip.messages import without_secrets
from tacoskip.models.settings import (
    CBHGSettings,
    CBHGSizes,
    LossSettings,
    RecognizerSettings,
    TacotronSettings,
)
from tacoskip.recipe_files import Layer, known_recipes, parse_yaml, read_yaml, recipe_layers
from tacoskip.settings import setting
from tacoskip.text.settings import TextSettings
from tacoskip.training.settings import TrainSettings

PATHS = ("run", "from_run", "data.root", "data.dir", "data.shards", "train.judge")
PARTS = ("bank", "stack", "gru", "residual")  # of CBHG
CBHGS = {"tts": ("cbhg", "postnet"), "asr": ("cbhg",)}  # sections of the CBHGs of a task's network
LONGEST_TEXT = 10_000  # characters of a setting that holds another


def _names_of(registry: str, *more: str) -> Callable[[], tuple[str, ...]]:
    """Return what looks the names of a registry of `tacoskip.blocks` up: it imports torch."""
    return lambda: (*more, *getattr(import_module("tacoskip.blocks"), registry))


@dataclass
class Config:
    """Everything a run is made of. recipe: its name, which no recipe sets. from_run: the run whose
    weights it starts from, `from=RUN` on the command line.

    cbhg: sizes of the encoder (a voice's or a recognizer's), postnet: of the CBHG behind a voice's
    decoder. tts, postnet and griffin_lim are of task=tts, asr and augment of task=asr.
    """

    recipe: str = ""
    from_run: str = ""
    task: str = setting("tts", "What is trained: a voice or a recognizer.", choices=("tts", "asr"))
    run: str = setting("", "The run folder; empty: runs/<recipe>.")
    seed: int = setting(0, "Seed of all random numbers.", most=2**32 - 1)
    block: str = setting(
        "highway",
        "Family of the stack in every CBHG; also package.module:Name, one's own.",
        choices=_names_of("BLOCKS"),
        others=lambda name: bool(import_module("tacoskip.blocks.external").is_external(name)),
    )
    skip: str = setting("", "Skip in place of the family's own.", choices=_names_of("SKIPS", ""))
    topology: str = setting(
        "", "Topology in place of the family's own.", choices=_names_of("TOPOLOGIES", "")
    )
    block_options: dict[str, float | int | str | bool] = setting(
        {},
        "Options of transform and topology by name, of the skip as skip_<name>; width: of the "
        "stack over the channels around it; start=identity: begin near the identity.",
    )
    without: list[str] = setting([], "Parts removed from every CBHG.", choices=PARTS)
    match: str = setting(
        "none",
        "Solve the stacks' widths so that the network costs what it costs with highway; stack: so "
        "that the stacks alone do, with all else unchanged.",
        choices=("none", "params", "macs", "stack"),
    )
    audio: AudioSettings = field(default_factory=AudioSettings)
    text: TextSettings = field(default_factory=TextSettings)
    data: DataSettings = field(default_factory=DataSettings)
    griffin_lim: GriffinLimSettings = field(default_factory=GriffinLimSettings)
    cbhg: CBHGSizes = field(default_factory=CBHGSizes)
    postnet: CBHGSizes = field(default_factory=lambda: CBHGSizes(bank_size=8))
    tts: TacotronSettings = field(default_factory=TacotronSettings)
    asr: RecognizerSettings = field(default_factory=RecognizerSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    ablation: dict[str, float | int | str | bool] = setting(
        {}, "What `tacoskip ablate` changes in the recipe first, by dotted key: a smaller budget."
    )


def with_block(sizes: CBHGSizes, config: Config) -> CBHGSettings:
    """Return a CBHG's sizes with the config's block, and without the parts it removes."""
    without, options = config.without, dict(config.block_options)
    width = options.pop("width", 1.0)
    if isinstance(width, str) or not 0 < width < math.inf:
        raise ConfigError(f"expected block_options.width above 0, got {width!r}")
    return CBHGSettings(
        **vars(sizes) | {"depth": 0 if "stack" in without else sizes.depth},
        block=config.block,
        skip=config.skip,
        topology=config.topology,
        block_options=options,
        width=float(width),
        **{part: part not in without for part in ("bank", "residual", "gru")},
    )


def cbhgs_of(config: Config) -> list[CBHGSettings]:
    """Return the settings of the CBHGs that a network of the config's task has."""
    return [with_block(getattr(config, section), config) for section in CBHGS[config.task]]


def load_config(recipe: str, overrides: list[str] | None = None) -> Config:
    """Load a recipe and lay the `key=value` overrides over it.

    Raises ConfigError, in one line, for an unknown recipe or key, a wrong type or a bad value.
    """
    from tacoskip.blocks.external import trust

    name, layers = recipe_layers(recipe)
    layers += [("", _parse_override(pair)) for pair in overrides or []]
    config = _compose(layers, interpolate=True)
    config.recipe, config.run = name, config.run or f"runs/{name}"
    trust(config.block)
    _check(config)
    return config


def load_arguments(pairs: list[str]) -> Config:
    """Load the `recipe=NAME key=value ...` of a command line.

    Without a recipe, `run=RUN` loads the settings that the run was trained with.
    """
    names = [pair.partition("=")[2] for pair in pairs if pair.startswith("recipe=")]
    others = [pair for pair in pairs if not pair.startswith("recipe=")]
    if len(names) > 1:
        raise ConfigError(f"expected one recipe=NAME, got {len(names)}: {', '.join(names)}")
    if names:
        return load_config(names[0], others)
    run = next((pair.partition("=")[2] for pair in pairs if pair.startswith("run=")), "")
    saved = Path(os.path.expanduser(run)) / "config.yaml"
    if run and saved.is_file():
        return from_dict(read_yaml(saved), str(saved), others)
    known, word = known_recipes(), next((pair for pair in pairs if "=" not in pair), "")
    got = f"'{word}'; did you mean 'recipe={word}'?" if word in known else "none"
    if run:
        got += f", and '{run}' is no run folder to resume"
    raise ConfigError(f"expected recipe=NAME, got {got} (known: {', '.join(known)})")


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved settings as plain yaml."""
    write_whole(path, _dumped(public_dict(config)))


def to_yaml(config: Config) -> str:
    """Return the settings of the config's task as yaml: a recipe without a base."""
    others = [name for task, names in SECTIONS.items() if task != config.task for name in names]
    return _dumped({k: v for k, v in public_dict(config).items() if k not in others})


def _dumped(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def from_dict(
    values: dict[str, Any], source: str = "settings", overrides: list[str] | None = None
) -> Config:
    """Read what `to_dict` gave; a key that is absent keeps its default. `source` leads the errors.

    Sections of the other task hold the defaults of the version that wrote them and are left out.
    overrides: `key=value` pairs laid over it. Raises ConfigError for an unknown key or a bad value,
    and for a block of one's own, which is code, unless the user has given its name too.
    """
    from tacoskip.blocks.external import TRUSTED, is_trusted, trust

    others = [s for task, own in SECTIONS.items() if task != values.get("task", "tts") for s in own]
    typed = [("", _parse_override(pair)) for pair in overrides or []]
    try:
        config = _compose([("", {k: v for k, v in values.items() if k not in others}), *typed])
        if any("block" in layer for _, layer in typed):
            trust(config.block)
        if not is_trusted(config.block):
            raise ConfigError(
                f"block '{config.block}' is code outside tacoskip, which a file alone may not run; "
                f"if you trust it, set {TRUSTED}={config.block} in the environment"
            )
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as nested dicts of plain values."""
    return asdict(config)


def public_dict(config: Config) -> dict[str, Any]:
    """Return `to_dict` without the secrets in addresses: for files and the screen."""
    values = to_dict(config)
    for key in PATHS:
        section, _, name = key.rpartition(".")
        place = values[section] if section else values
        place[name] = without_secrets(place[name])
    return values


def _check(config: Config) -> None:
    check_values(config)
    for settings in cbhgs_of(config):
        check_stack(settings)


def _parse_override(pair: str) -> dict[str, Any]:
    """Turn `a.b=1` into {"a.b": 1}: text stays as typed, all else is read as yaml."""
    key, equals, raw = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got '{pair}'")
    kinds, key = field_kinds(Config), "from_run" if key == "from" else key
    check_key(key, kinds)
    value: Any = raw
    if kinds.get(key) is not str:
        with suppress(ValueError):  # what is no yaml is refused as the text that it is
            value = parse_yaml(raw)
    return {key: value}


def _compose(layers: list[Layer], interpolate: bool = False) -> Config:
    """Lay the layers over the defaults, each value converted to the type of its field."""
    kinds = field_kinds(Config)
    values = dict(flatten(to_dict(Config()), kinds))
    for where, layer in layers:
        for key, value in flatten(layer, kinds):
            try:
                check_key(key, kinds)
                if key not in kinds:  # an option in a dict
                    key, _, name = key.rpartition(".")
                    value = {name: value}
                value = convert(key, value, kinds[key])
            except ConfigError as error:
                raise ConfigError(f"{where}{error}") from None
            values[key] = values[key] | value if isinstance(value, dict) else value
    for key, value in values.items():
        if "${" in str(value):
            values[key] = _interpolated(key, values, interpolate)
    for key in PATHS:  # a shell leaves ~ in `data.root=~/corpus`
        if values[key] == "~" or values[key].startswith("~/"):
            values[key] = os.path.expanduser(values[key])
    top = {key: value for key, value in values.items() if "." not in key}
    for section in (name for name, kind in kinds.items() if is_dataclass(kind)):
        head = f"{section}."
        own = {k.removeprefix(head): v for k, v in values.items() if k.startswith(head)}
        try:  # a section's own dataclass may refuse what it is given
            top[section] = kinds[section](**own)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{'' if head in str(error) else f'{section}: '}{error}") from None
    return Config(**top)


def _interpolated(key: str, values: dict[str, Any], allowed: bool) -> Any:
    """Return the text of `key` with each ${other} replaced by the value of that key."""
    text = values[key]
    for name in re.findall(r"\$\{(.*?)\}", text) if allowed and isinstance(text, str) else ():
        if isinstance(values.get(name), str | int | float):
            text = text.replace(f"${{{name}}}", str(values[name]), 1)
        if len(text) > LONGEST_TEXT:
            raise ConfigError(f"'{key}': expected at most {LONGEST_TEXT:,} characters, got more")
    if "${" in str(text):
        raise ConfigError(f"'{key}': expected plain values, got an interpolation in '{text}'")
    return text
