"""Who may import whom: the table of docs/explanation/architecture.md, held over every import.

An import inside a function counts as well, and so does one for the type checker alone.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tacoskip"
FILES = sorted(PACKAGE.rglob("*.py"))

COMMON = {"files", "messages", "settings", "timed_words"}  # every room may import them
SETTINGS = {f"{room}.settings" for room in ("text", "audio", "models", "data", "training")}
GROUND = {"text", "audio", "masks", "precision", "kernels", "blocks", "models", "data"}
CONFIG = GROUND | {"config", "config_checks", "recipe_files"}
USE = CONFIG | {"run_folder", "synthesis", "recognition", "loading"}
EVALUATION = USE | {"evaluation", "export"}
LAB = EVALUATION | {"probes", "training"}

# A room may import itself and these. A name with a dot is that module alone.
MAY_IMPORT: dict[str, set[str]] = {
    **{name: set() for name in COMMON},
    "text": set(),
    "audio": {"kernels.cpu"},
    "masks": set(),
    "precision": set(),
    "kernels": {"models", "blocks", "masks", "precision"},
    "blocks": {"masks", "precision"},
    "models": {"blocks", "masks", "precision"},
    "data": {"text", "audio", "masks"},
    "recipe_files": {"config_checks"},
    "config": SETTINGS | {"blocks", "config_checks", "recipe_files"},
    "config_checks": {"config", "blocks", "models.settings"},
    "run_folder": CONFIG,
    "recognition": CONFIG | {"run_folder"},
    "synthesis": CONFIG | {"run_folder"},
    "loading": CONFIG | {"run_folder", "synthesis", "recognition"},
    "export": USE,
    "evaluation": USE,
    "probes": {"blocks", "models", "masks"},
    "training": EVALUATION | {"probes"},
    "ablation": LAB,
    "cli": LAB | {"ablation", "__init__"},
    "__init__": LAB | {"ablation"},
}

# These packages have one home each.
HOMES = {
    "yaml": {"ablation", "config", "recipe_files"},
    "pooch": {"data"},
    "fsspec": {"data"},
    "accelerate": {"training"},
    "ray": {"ablation"},
    "submitit": {"ablation"},
    "jinja2": {"ablation"},
    "typer": {"cli"},
    "rich": {"cli", "ablation"},
}

TORCH_ONLY = {"blocks", "models", "kernels"}


def imports(source: str, module: str) -> Iterator[str]:
    """Dotted names of everything `source`, the file of `module`, imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def room_of(module: str) -> str:
    return module.removeprefix("tacoskip.").split(".")[0]


def offences(source: str, module: str) -> list[str]:
    """Imports of `source` that the table does not allow to `module`."""
    room, found = room_of(module), []
    for name in imports(source, module):
        top = name.split(".")[0]
        if top == "tacoskip":
            inner = name.removeprefix("tacoskip").removeprefix(".")
            target = inner.split(".")[0]
            allowed = MAY_IMPORT[room] | (COMMON if room not in COMMON else {"messages"})
            exact = any(inner == one or inner.startswith(f"{one}.") for one in allowed)
            if target != room and not exact:
                found.append(name)
            continue
        usual = {"torch"} | ({"triton"} if room == "kernels" else set())
        foreign = room in TORCH_ONLY and top not in usual | sys.stdlib_module_names
        if foreign or room not in HOMES.get(top, {room}):
            found.append(name)
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_files_import_what_their_room_may(room: str) -> None:
    files = {module_of(path): path for path in FILES if room_of(module_of(path)) == room}
    found = {name: offences(path.read_text(encoding="utf-8"), name) for name, path in files.items()}
    assert files
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_file_has_a_room() -> None:
    assert {room_of(module_of(path)) for path in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tacoskip.models.cbhg", "from tacoskip.data import Batch"),
        ("tacoskip.data.batches", "import tacoskip.models.cbhg"),
        ("tacoskip.data.batches", "def f():\n    from tacoskip.models import cbhg"),
        ("tacoskip.models.cbhg", "from ..data import batches"),
        ("tacoskip.text.normalize", "from tacoskip import masks"),
        ("tacoskip.blocks.highway", "import numpy"),
        ("tacoskip.synthesis.voice", "import yaml"),
        ("tacoskip.training.loop", "import fsspec.core"),
        ("tacoskip.synthesis.voice", "from tacoskip.training import train"),
        ("tacoskip.config", "from tacoskip.models.cbhg import CBHG"),
        ("tacoskip.evaluation.voices", "from rich.table import Table"),
    ],
)
def test_the_test_sees_a_forbidden_import(module: str, source: str) -> None:
    assert len(offences(source, module)) == 1


def test_models_and_data_stay_strangers() -> None:
    assert "data" not in MAY_IMPORT["models"]
    assert "models" not in MAY_IMPORT["data"]
