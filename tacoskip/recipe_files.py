"""Recipes as files: where they are, what they stand on, their yaml as plain values."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tacoskip.config_checks import ConfigError
from tacoskip.files import read_regular
from tacoskip.messages import nearest

Layer = tuple[str, dict[str, Any]]  # where it was written, and what it says

LARGEST = 1 << 20  # bytes
MOST_ALIASES = 16  # of a yaml: more could unfold to fill the memory
DEEPEST = 50  # lists and mappings inside one another; reading takes the square of their number


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values: 1e-3 is a number, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep=deep)
        if len(values) < len(node.value):
            raise yaml.YAMLError(f"duplicate key in line {node.start_mark.line + 1}")
        return values


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def known_recipes() -> list[str]:
    """Names that `recipe=` accepts; recipes/base/ holds what only other recipes stand on."""
    return sorted({path.stem for folder in _recipe_folders() for path in folder.glob("*.yaml")})


def find_recipe(name: str) -> Path:
    """Return a recipe's file: a path ending in .yaml, or a name.

    A name is looked up in ./recipes, then in the checkout's recipes/, then in the package.
    Raises ConfigError for a name nobody has, with the known ones and the nearest.
    """
    known = known_recipes()
    if name.endswith(".yaml"):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"no recipe file '{name}' (known recipes: {', '.join(known)})")
    for folder in _recipe_folders():
        if name and (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise ConfigError(f"unknown recipe '{name}'{nearest(name, known)} (known: {', '.join(known)})")


def _recipe_folders() -> list[Path]:
    package = Path(__file__).resolve().parent
    folders = [Path("recipes"), package.parent / "recipes", package / "recipes"]
    return [folder for folder in folders if folder.is_dir()]


def recipe_layers(recipe: str) -> tuple[str, list[Layer]]:
    """Return the recipe's name and its layers, the deepest base first."""
    path = first = find_recipe(recipe)
    layers, seen = list[Layer](), list[Path]()
    while path.resolve() not in seen:
        seen.append(path.resolve())
        layer = read_yaml(path)
        base = layer.pop("base", None)
        layers.insert(0, (f"{path}: ", layer))
        if base is None:
            if any("task" in layer for _, layer in layers):
                return first.stem, layers
            raise ConfigError(
                f"{first}: expected a base or a task, got neither; add "
                "'base: base/tts' for a voice or 'base: base/asr' for a recognizer"
            )
        if not isinstance(base, str):
            raise ConfigError(f"{path}: expected a recipe's name for 'base', got {base!r}")
        beside = path.parent / f"{base}.yaml"
        path = beside if beside.is_file() else find_recipe(base)
    raise ConfigError(f"{path}: base recipes go round in a circle")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a yaml file of settings: plain values, no objects, nothing looked up elsewhere."""
    try:
        loaded = parse_yaml(read_regular(path, LARGEST).decode())
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a yaml of settings: {error}") from None
    if not isinstance(loaded, dict | None):
        got = type(loaded).__name__ if isinstance(loaded, list) else repr(str(loaded)[:40])
        raise ConfigError(f"{path}: expected lines of 'key: value', got {got}")
    return {str(key): value for key, value in (loaded or {}).items()}


def parse_yaml(text: str) -> Any:
    """Return the value of a yaml text. Raises ValueError, in one line, for what is none."""
    try:
        aliases = depth = 0
        for event in yaml.parse(text, _Loader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if aliases > MOST_ALIASES:
                raise ValueError(f"expected at most {MOST_ALIASES} aliases (*name)")
            if depth > DEEPEST:
                raise ValueError("nested too deep")
        loaded = yaml.load(text, _Loader)
        json.dumps(loaded, default=str)  # refuses what contains itself
        return loaded
    except RecursionError:
        raise ValueError("nested too deep") from None
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{error.problem}{line}") from None
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
