"""Recipes as files: where they are, what they stand on, their yaml as plain values."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from tacoskip.config_checks import ConfigError
from tacoskip.messages import nearest

Layer = tuple[str, dict[str, Any]]  # where it was written, and what it says

MOST_ALIASES = 16  # of a yaml: more could unfold to fill the memory


def known_recipes() -> list[str]:
    """Names that `recipe=` takes; recipes/base/ holds what only other recipes stand on."""
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
    path = find_recipe(recipe)
    name, layers, seen = path.stem, list[Layer](), [path.resolve()]
    while True:
        layer = read_yaml(path, resolve=True)
        base = layer.pop("base", None)
        layers.insert(0, (f"{path}: ", layer))
        if base is None:
            if not any("task" in layer for _, layer in layers):
                raise ConfigError(
                    f"{find_recipe(recipe)}: expected a base or a task, got neither; add "
                    "'base: base/tts' for a voice or 'base: base/asr' for a recognizer"
                )
            return name, layers
        if not isinstance(base, str):
            raise ConfigError(f"{path}: expected a recipe's name for 'base', got {base!r}")
        beside = path.parent / f"{base}.yaml"
        path = beside if beside.is_file() else find_recipe(base)
        if path.resolve() in seen:
            raise ConfigError(f"{path}: base recipes go round in a circle")
        seen.append(path.resolve())


def read_yaml(path: Path, resolve: bool) -> dict[str, Any]:
    try:
        events = list(yaml.parse(path.read_text(encoding="utf-8"), yaml.SafeLoader))
        if sum(isinstance(event, yaml.AliasEvent) for event in events) > MOST_ALIASES:
            raise ConfigError(f"{path}: expected at most {MOST_ALIASES} aliases (*name)")
        for event in events[2:3]:  # behind the starts of stream and document
            if isinstance(event, yaml.ScalarEvent) and event.value not in ("", "~", "null"):
                got = repr(event.value[:40])
                raise ConfigError(f"{path}: expected lines of 'key: value', got {got}")
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=resolve)
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{path}: not a yaml of settings: nested too deep") from None
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}") from None
    except MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ConfigError(f"{path}: not a yaml of settings: {error.problem}{line}") from None
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: not a yaml of settings: {reason}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected lines of 'key: value', got {type(loaded).__name__}")
    return {str(key): value for key, value in loaded.items()}
