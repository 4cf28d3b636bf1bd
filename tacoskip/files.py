"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` when the block ends without an error.

    Raises OSError, named for `path`, when the disk is full; nothing half-written stays.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file atomically; text is written as UTF-8. Raises OSError when the disk is full."""
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def save_figure(figure: "Figure", path: str | Path, dpi: int = 110) -> None:
    """Write a matplotlib figure as png, atomically."""
    picture = BytesIO()
    figure.savefig(picture, dpi=dpi, format="png")
    write_whole(path, picture.getvalue())
