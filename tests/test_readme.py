"""What README and docs tell the reader to type exists: commands, options, recipes, keys, files.

Blocks fenced as sh, bash, shell or console are read as commands, those fenced as python as code.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer

from tacoskip.ablation.request import folder_of, parse_request, resolve, variants
from tacoskip.cli import app
from tacoskip.config import load_arguments

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = [*sorted(ROOT.glob("*.md")), ROOT / "data" / "README.md"]  # of the site
PAGES = [*OUTSIDE, *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("sh", "bash", "shell", "console")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^ *```", re.M | re.S)
SEPARATORS = {"|", "||", "&", "&&", ";"}


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["language"] in languages:
            yield match["body"]


def commands(block: str) -> Iterator[list[str]]:
    """Each simple command of a shell block, as its words; `$ ` leads commands where it is used."""
    lines = block.replace("\\\n", " ").splitlines()
    if any(line.lstrip().startswith("$ ") for line in lines):
        lines = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)  # FOO=1 command
            if words:
                yield words
            words = []


def fault(words: list[str]) -> str | None:
    """Return what is wrong with a command, None where nothing is or it is not ours."""
    for mark in (">", ">>", "<"):
        if mark in words:
            words = words[: words.index(mark)]
    name = Path(words[0]).name
    if name == "make":
        return _fault_of_make(words[1:])
    if name.startswith("python") and len(words) > 1 and words[1].endswith(".py"):
        if words[1] == "cli.py":
            return _fault_of_tacoskip(words[2:])
        return None if (ROOT / words[1]).is_file() else f"no file {words[1]}"
    if name == "tacoskip":
        return _fault_of_tacoskip(words[1:])
    if words[0] == ".ci/run":
        return None if (ROOT / words[0]).is_file() else "no .ci/run"
    return None


def _fault_of_make(words: list[str]) -> str | None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    missing = [word for word in words if "=" not in word and word not in targets]
    return f"no target {missing[0]} in the Makefile" if missing else None


def _fault_of_tacoskip(words: list[str]) -> str | None:
    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        return None
    command = group.get_command(None, words[0])  # type: ignore[attr-defined]
    if command is None:
        return f"no command {words[0]}"
    try:
        context = command.make_context(words[0], list(words[1:]))
        if context.params.get("status"):
            folder_of(context.params["settings"] or [])
        elif words[0] == "ablate":
            variants(*resolve(parse_request(context.params["settings"] or [])))
        elif "settings" in context.params:
            load_arguments(context.params["settings"] or [])
    except ValueError as error:
        return str(error)
    except SystemExit:
        return None
    except Exception as error:  # what click calls a usage error
        return str(getattr(error, "format_message", error.__str__)())
    return None


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "examples"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_can_be_typed(page: Path) -> None:
    found = [words for block in blocks(page, *SHELL) for words in commands(block)]
    wrong = [(" ".join(words), fault(words)) for words in found]
    assert [(line, reason) for line, reason in wrong if reason] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_finds_what_it_imports(page: Path) -> None:
    missing = []
    for block in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tacoskip"):
                module = import_module(node.module or "")
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                missing += [f"{node.module}.{name}" for name in names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                tops = {"tacoskip": import_module("tacoskip")}
                if node.value.id in tops and not hasattr(tops[node.value.id], node.attr):
                    missing.append(f"tacoskip.{node.attr}")
    assert missing == []


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_outside_the_site_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_shows_the_two_commands_and_the_way() -> None:
    readme = ROOT / "README.md"
    found = [" ".join(words) for block in blocks(readme, *SHELL) for words in commands(block)]
    for needed in ("make demo", "make test", "tacoskip train", "tacoskip synthesize"):
        assert any(needed in line for line in found), f"README.md never shows `{needed}`"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("tacoskip trian recipe=demo", "no command trian"),
        ("tacoskip train recipe=demoo", "unknown recipe"),
        ("tacoskip train recipe=demo train.max_step=5", "unknown key"),
        ("tacoskip ablate recipe=fsdd blocks=plane", "unknown block 'plane'"),
        ("tacoskip ablate recipe=ljspeech blocks=plain", "no budget"),
        ("FOO=1 tacoskip train --resume recipe=demo", "No such option"),
        ("cat x | .venv/bin/tacoskip synthesize - --sped 3", "No such option"),
        ("tacoskip synthesize", "Missing argument"),
        ("make demo && make tset", "no target tset"),
        ("python benchmarks/gone.py --fast", "no file benchmarks/gone.py"),
    ],
)
def test_the_test_sees_a_fault(line: str, reason: str) -> None:
    faults = [fault(words) for words in commands(line)]
    assert any(reason in (found or "") for found in faults), faults


@pytest.mark.parametrize(
    "line",
    [
        'tacoskip synthesize runs/demo "Hello; you | there." -o - | aplay  # speaks',
        "tacoskip train recipe=fsdd data.root=../fsdd \\\n    train.max_minutes=10",
        "$ make setup PYTHON=python3.12\nwhatever it prints",
        "echo hello | tacoskip synthesize runs/demo - -o out.wav > log",
        "tacoskip doctor --json",
    ],
)
def test_the_test_lets_good_commands_pass(line: str) -> None:
    found = list(commands(line))
    assert found
    assert [fault(words) for words in found if fault(words)] == []
