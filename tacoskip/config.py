"""The settings of a run: composed from dataclasses, loaded from recipes, checked, saved.

Order: the dataclasses' defaults, the chain of base recipes, the recipe, the command line; the
later wins. Only this file and `recipe_files` use OmegaConf; settings are plain dataclasses.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tacoskip.audio.settings import AudioSettings, GriffinLimSettings
from tacoskip.config_checks import (
    SECTIONS,
    ConfigError,
    check_items,
    check_key,
    check_values,
    field_kinds,
    flatten,
    kind_name,
)
from tacoskip.data.settings import AugmentSettings, DataSettings
from tacoskip.files import write_whole
from tacoskip.models.settings import (
    CBHGSettings,
    CBHGSizes,
    LossSettings,
    RecognizerSettings,
    TacotronSettings,
)
from tacoskip.recipe_files import Layer, find_recipe, known_recipes, read_yaml, recipe_layers
from tacoskip.settings import setting
from tacoskip.text.settings import TextSettings
from tacoskip.training.settings import TrainSettings

__all__ = [
    "Config",
    "ConfigError",
    "find_recipe",
    "from_dict",
    "known_recipes",
    "load_arguments",
    "load_config",
    "load_saved",
    "save_config",
    "to_dict",
    "to_yaml",
    "with_block",
]

PARTS = ("bank", "stack", "gru", "residual")  # of CBHG


def _names_of(registry: str, *more: str) -> Callable[[], tuple[str, ...]]:
    """Return what looks the names of a registry of `tacoskip.blocks` up: it imports torch."""
    return lambda: (*more, *getattr(import_module("tacoskip.blocks"), registry))


def _is_external(block: str) -> bool:
    from tacoskip.blocks.external import is_external

    return is_external(block)


@dataclass
class Config:
    """Everything a run is made of. recipe: its name, which no recipe sets.

    cbhg: sizes of the encoder (a voice's or a recognizer's), postnet: of the CBHG behind a voice's
    decoder. tts, postnet and griffin_lim are of task=tts, asr and augment of task=asr.
    """

    recipe: str = ""
    task: str = setting("tts", "What is trained: a voice or a recognizer.", choices=("tts", "asr"))
    run: str = setting("", "The run folder; empty: runs/<recipe>.")
    seed: int = setting(0, "Seed of all random numbers.", most=2**32 - 1)
    block: str = setting(
        "highway",
        "Family of the stack in every CBHG; also package.module:Name, one's own.",
        choices=_names_of("BLOCKS"),
        others=_is_external,
    )
    skip: str = setting("", "Skip in place of the family's own.", choices=_names_of("SKIPS", ""))
    topology: str = setting(
        "", "Topology in place of the family's own.", choices=_names_of("TOPOLOGIES", "")
    )
    block_options: dict[str, float | int | str | bool] = setting(
        {}, "Options of transform and topology by name, of the skip as skip_<name>."
    )
    without: list[str] = setting([], "Parts taken out of every CBHG.", choices=PARTS)
    match: str = setting(
        "none",
        "Solve the stacks' widths so that the network costs what it costs with highway.",
        choices=("none", "params", "macs"),
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
    """Return a CBHG's sizes with the config's block, and without the parts it takes out."""
    without = config.without
    return CBHGSettings(
        **vars(sizes) | {"depth": 0 if "stack" in without else sizes.depth},
        block=config.block,
        skip=config.skip,
        topology=config.topology,
        block_options=config.block_options,
        **{part: part not in without for part in ("bank", "residual", "gru")},
    )


def load_config(recipe: str, overrides: list[str] | None = None) -> Config:
    """Load a recipe and lay the `key=value` overrides over it.

    Raises ConfigError, in one line, for an unknown recipe or key, a wrong type or a bad value.
    """
    name, layers = recipe_layers(recipe)
    layers += [("", _parse_override(pair)) for pair in overrides or []]
    config = _compose(layers)
    config.recipe = name
    config.run = config.run or f"runs/{name}"
    _trust_block(config)
    return _finished(config)


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
        return _finished(from_dict(read_yaml(saved, resolve=False), str(saved), others))
    known, word = known_recipes(), next((pair for pair in pairs if "=" not in pair), "")
    got = f"'{word}'; did you mean 'recipe={word}'?" if word in known else "none"
    if run:
        got += f", and '{run}' is no run folder to resume"
    raise ConfigError(f"expected recipe=NAME, got {got} (known: {', '.join(known)})")


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved settings as plain yaml."""
    write_whole(path, OmegaConf.to_yaml(to_dict(config)))


def to_yaml(config: Config) -> str:
    """Return the settings of the config's task as yaml: a recipe that stands on no other."""
    others = [name for task, names in SECTIONS.items() if task != config.task for name in names]
    return OmegaConf.to_yaml({k: v for k, v in to_dict(config).items() if k not in others})


def load_saved(path: str | Path) -> Config:
    """Read what `save_config` wrote: plain values, no objects, nothing looked up elsewhere.

    Raises ConfigError when the file is absent, is no such yaml, or says what no run can be.
    """
    return from_dict(read_yaml(Path(path), resolve=False), source=str(path))


def from_dict(
    values: dict[str, Any], source: str = "settings", overrides: list[str] | None = None
) -> Config:
    """Read what `to_dict` gave; a key that is absent keeps its default. `source` leads the errors.

    Sections of the other task hold the defaults of the version that wrote them and are left out.
    overrides: `key=value` pairs laid over it. Raises ConfigError for an unknown key or a bad value,
    and for a block of one's own, which is code, unless the user has given its name too.
    """
    if "${" in str(values):
        raise ConfigError(f"{source}: expected plain values, got an interpolation '${{...}}'")
    others = [s for task, own in SECTIONS.items() if task != values.get("task", "tts") for s in own]
    typed = [("", _parse_override(pair)) for pair in overrides or []]
    try:
        config = _compose([("", {k: v for k, v in values.items() if k not in others}), *typed])
        if any("block" in layer for _, layer in typed):
            _trust_block(config)
        _check_trusted(config)
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as nested dicts of plain values."""
    return asdict(config)


def _trust_block(config: Config) -> None:
    from tacoskip.blocks.external import trust

    trust(config.block)


def _check_trusted(config: Config) -> None:
    from tacoskip.blocks.external import TRUSTED, is_trusted

    if not is_trusted(config.block):
        raise ConfigError(
            f"block '{config.block}' is code outside tacoskip, which a file alone may not run; if "
            f"you trust it, set {TRUSTED}={config.block} in the environment"
        )


def _check(config: Config) -> None:
    check_values(config, [with_block(sizes, config) for sizes in (config.cbhg, config.postnet)])


def _finished(config: Config) -> Config:
    """Expand `~` in paths, which a shell leaves in `data.root=~/corpus`, and check the values."""

    def expanded(path: str) -> str:
        return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path

    config.run, config.train.judge = expanded(config.run), expanded(config.train.judge)
    for key in ("root", "dir", "shards"):
        setattr(config.data, key, expanded(getattr(config.data, key)))
    _check(config)
    return config


def _parse_override(pair: str) -> dict[str, Any]:
    """Turn `a.b=1` into {"a": {"b": 1}}: text stays as typed, all else is read as yaml."""
    key, equals, raw = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got '{pair}'")
    kinds = field_kinds(Config)
    check_key(key, kinds)
    value: Any = raw
    if kinds.get(key) is not str:
        try:
            read = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={raw}"]))
            value = read["value"] if isinstance(read, dict) else None
        except (OmegaConfBaseException, YAMLError, ValueError):
            raise ConfigError(
                f"expected {kind_name(kinds[key])} for '{key}', got '{raw}'"
            ) from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return {str(name): inner for name, inner in value.items()}


def _compose(layers: list[Layer]) -> Config:
    merged, kinds = OmegaConf.structured(Config), field_kinds(Config)
    for where, layer in layers:
        for key, value in flatten(layer, kinds):
            try:
                check_key(key, kinds)
            except ConfigError as error:
                raise ConfigError(f"{where}{error}") from None
            if kinds[key] is int and isinstance(value, float) and value.is_integer():
                value = int(value)  # yaml's 1e5 is a float, and what a researcher types
            try:
                check_items(value, kinds[key])
                OmegaConf.update(merged, key, value)
            except (OmegaConfBaseException, TypeError):
                got = "nothing" if value is None else repr(value)
                expected = f"expected {kind_name(kinds[key])} for '{key}'"
                raise ConfigError(f"{where}{expected}, got {got}") from None
    values: dict[str, Any] = {}
    for name in kinds:
        if "." in name:
            continue
        try:  # a section's own dataclass may refuse what it is given
            value = merged[name]
            values[name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except (OmegaConfBaseException, ValueError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            where = "" if f"{name}." in reason else f"{name}: "
            raise ConfigError(f"{where}{reason}") from None
    return Config(**values)
