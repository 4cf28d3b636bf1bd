"""What all commands share: exit codes, errors of one line, JSON alone on stdout, progress."""

import errno
import functools
import inspect
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO, cast, get_type_hints

import typer

from tacoskip.messages import human_duration, plain_values, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

FAILED, WRONG = 1, 2

# Exceptions that mean: the request was wrong. Any other exception is work that failed.
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
WRONG_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
REQUEST_ERRORS = (ValueError, FileExistsError, PermissionError, *MISSING)

LOG_EVERY_SECONDS = 10.0

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only results, warnings and errors.")
]

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_stdout: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


@dataclass
class Result:
    """What a command found: `values` for --json, else `parts`, texts and tables. failed: exit 1."""

    values: dict[str, Any]
    parts: "Sequence[RenderableType]" = ()
    failed: bool = False


def command(function: Callable[..., Result | None]) -> Callable[..., None]:
    """Make a function a command, whose errors become one line on stderr and an exit code.

    What it prints goes to standard error, so that only its result is on standard output. Adds the
    options --quiet, --json where it returns a Result, and the fields of each parameter that is a
    dataclass. TACOSKIP_DEBUG=1 prints the traceback as well; the exit code stays.
    """
    signature = inspect.signature(function)
    parameters, groups = list[inspect.Parameter](), dict[str, Any]()
    for one in signature.parameters.values():
        if is_dataclass(one.annotation):
            groups[one.name] = one.annotation
            hints = get_type_hints(one.annotation, include_extras=True)
            found = fields(one.annotation)
            parameters += [_option(each.name, hints[each.name], each.default) for each in found]
        else:
            parameters.append(one)
    if signature.return_annotation is Result and "json" not in signature.parameters:
        parameters.append(_option("json", Json))
    parameters.append(_option("quiet", Quiet))

    @functools.wraps(function)
    def run(**values: Any) -> None:
        as_json, quiet = values.get("json", False), values.pop("quiet", False)
        if "json" not in signature.parameters:
            values.pop("json", None)
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        copy_context().run(_run, functools.partial(function, **values), as_json, quiet)

    wrapper = cast(Any, run)
    wrapper.__signature__ = signature.replace(parameters=parameters)
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _run(function: Callable[[], Result | None], as_json: bool, quiet: bool) -> None:
    _quiet.set(quiet)
    _stdout.set(sys.stdout)
    with _exit_codes(), _warnings_as_lines(), _threads_as_lines():
        with redirect_stdout(sys.stderr):
            result = function()
        if result and as_json:
            emit(json.dumps(plain_values(result.values), ensure_ascii=False))
        elif result:
            emit(*result.parts)
        if result and result.failed:
            raise typer.Exit(FAILED)
        sys.stdout.flush()  # a reader that has closed the pipe raises here


def _option(name: str, hint: Any, default: Any = False) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=hint)


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn exceptions into a line on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _print("interrupted; prepare, train and ablate resume when they are run again")
        # Training says which signal it was.
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        raise typer.Exit(128 + number) from None
    except BrokenPipeError:  # end as the signal would
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if os.environ.get("TACOSKIP_DEBUG"):
            traceback.print_exc()
        print_error(_one_line(error))
        wrong = isinstance(error, REQUEST_ERRORS) or getattr(error, "errno", 0) in WRONG_NAMES
        raise typer.Exit(WRONG if wrong else FAILED) from None


def open_standard_streams() -> None:
    """Open /dev/null for standard streams that are closed: else files take their numbers."""
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
        if mode == "w" and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # names that are not UTF-8


@contextmanager
def home_folder() -> Iterator[None]:
    """Give a user without HOME and without an entry in passwd a cache for this command."""
    with ExitStack() as stack:
        try:
            Path.home()
        except RuntimeError:
            folder = stack.enter_context(TemporaryDirectory())
            os.environ.setdefault("XDG_CACHE_HOME", folder)
        yield


def log(message: str, warning: bool = False) -> None:
    """Print one line on standard error; with --quiet warnings only."""
    if warning:
        _print(f"warning: {message}")
    elif not _quiet.get():
        _print(message)


def print_error(message: str) -> None:
    """Print one line that begins with "error:" on standard error."""
    _print(f"error: {message}")


def standard_output() -> TextIO:
    """Return the stream of the command's result; `sys.stdout` is another while it works."""
    return _stdout.get() or sys.stdout


def emit(*parts: "RenderableType") -> None:
    """Print on standard output; tables are as wide as the terminal, COLUMNS or they need."""
    stdout = standard_output()
    for part in parts:
        if isinstance(part, str):
            print(part, file=stdout)
            continue
        from rich.console import Console

        width = None if stdout.isatty() or os.environ.get("COLUMNS") else 10_000
        console = Console(file=stdout, highlight=False, width=width)
        with console.capture() as shown:  # rich itself ends a command whose reader has left
            console.print(part)
        stdout.write(shown.get())


def table(
    columns: list[str], rows: list[list[str]], title: str = "", wrap: tuple[str, ...] = ()
) -> "Table":
    """Return a table. Where it is too wide, the columns of `wrap` are folded."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    result = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    result.show_header = any(columns)
    for column in columns:
        result.add_column(column, overflow="fold", no_wrap=column not in wrap)
    for row in rows:
        result.add_row(*(escape(printable(cell)) for cell in row))
    return result


class Bar:
    """Progress on standard error: a live bar on a terminal, a line every 10 s elsewhere."""

    def __init__(self, label: str) -> None:
        from rich import progress
        from rich.console import Console

        self._label, self._began = label, time.monotonic()
        self._logged = self._since = self._began
        self._first = self._share = 1.0  # a resumed run begins behind 0
        self._note = ""
        console = Console(stderr=True)
        self._live = progress.Progress(
            *progress.Progress.get_default_columns(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=console,
            redirect_stdout=False,
            disable=_quiet.get() or not console.is_terminal,
        )
        self._task = self._live.add_task(label, total=None, note="")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, share: float | None, note: str = "") -> None:
        """Show how much is done, 0..1 (None: not known), and a note."""
        completed = {} if share is None else {"completed": share, "total": 1.0}
        self._live.update(self._task, note=printable(note), **completed)  # type: ignore[arg-type]
        now = time.monotonic()
        if share is not None:
            begins = share == self._first and note != self._note  # after what took no share
            if share < self._share or begins:
                self._since, self._first = now, share
            self._share, self._note = share, note
        if self._live.disable and now - self._logged >= LOG_EVERY_SECONDS:
            self._logged = now
            percent = "" if share is None else f" {share:4.0%}"
            times = f"{human_duration(now - self._began)} elapsed"
            if share and share > self._first:
                left = (now - self._since) * (1 - share) / (share - self._first)
                times += f", {human_duration(left)} left"
            log(f"{self._label}{percent} {note} ({times})")

    def count(self, done: int, total: int, note: str) -> None:
        """Show how many of a number of things are done; 0: the number is not known."""
        self.show(done / total if total else None, note)


def _print(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if not isinstance(error, ValueError | RuntimeError | OSError):
        text = f"{type(error).__name__}: {text} (TACOSKIP_DEBUG=1 shows where)"
    return text if len(text) <= 500 else f"{text[:500]} ..."


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        line = " ".join(str(message).split())
        if line not in seen:
            seen.add(line)
            log(line, warning=True)

    with warnings.catch_warnings():
        # Other packages' notes to their own developers are of no use to users.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def _threads_as_lines() -> Iterator[None]:
    """Report in one line what ended a thread; its caller raises an OSError again."""

    def show(failed: threading.ExceptHookArgs) -> None:
        if isinstance(failed.exc_value, Exception) and not isinstance(failed.exc_value, OSError):
            log(f"a thread failed: {_one_line(failed.exc_value)}", warning=True)

    before = threading.excepthook
    if not os.environ.get("TACOSKIP_DEBUG"):
        threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before
