"""Print the repository's sizes; with --enforce fail when one is over its limit.

Run from the root of a checkout where tacoskip is installed: python .ci/sizes.py [--enforce]
"""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

from tacoskip.config import Config
from tacoskip.config_checks import all_settings

LIMITS = {
    "package, lines of Python": 17_000,
    "C and Triton, lines": 2_700,
    "benchmarks, lines": 3_000,
    "largest file, lines": 350,
    "longest function, lines": 60,
    "widest signature, parameters": 10,
    "settings": 95,
}

PACKAGE = Path("tacoskip")


def lines(paths: Iterable[Path]) -> int:
    """Count the lines of files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def functions(path: Path) -> list[tuple[int, int, str]]:
    """Return (lines, parameters, place) of every function in a file but Triton's JIT kernels.

    A kernel is one function by nature, and takes every tensor and size as a parameter.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_kernel(node):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            parameters = [one for one in arguments if one.arg not in ("self", "cls")]
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            found.append((length, len(parameters), f"{path}:{node.lineno} {node.name}"))
    return found


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list)


def measure() -> dict[str, tuple[int, str]]:
    """Return each size with the place where it is reached."""
    triton = set((PACKAGE / "kernels" / "triton").rglob("*.py"))
    python = sorted(set(PACKAGE.rglob("*.py")) - triton)
    native = [path for end in ("*.c", "*.h") for path in PACKAGE.rglob(end)]
    others = [
        path for folder in ("tests", "benchmarks", "docs") for path in Path(folder).rglob("*.py")
    ]
    file = max(python + sorted(triton) + others, key=lambda path: lines([path]))
    defined = [one for path in python + sorted(triton) for one in functions(path)]
    length, _, longest = max(defined)
    _, parameters, widest = max(defined, key=lambda one: one[1])
    return {
        "package, lines of Python": (lines(python), ""),
        "C and Triton, lines": (lines([*native, *triton]), ""),
        "benchmarks, lines": (lines(Path("benchmarks").rglob("*.py")), ""),
        "largest file, lines": (lines([file]), str(file)),
        "longest function, lines": (length, longest),
        "widest signature, parameters": (parameters, widest),
        "settings": (len(list(all_settings(Config()))), ""),
    }


def main() -> None:
    over = 0
    for name, (size, place) in measure().items():
        verdict = "" if size <= LIMITS[name] else " OVER"
        over += bool(verdict)
        print(f"{name:30} {size:7,} of {LIMITS[name]:6,}{verdict:5}  {place}".rstrip())
    if over and "--enforce" in sys.argv[1:]:
        sys.exit(1)


if __name__ == "__main__":
    main()
