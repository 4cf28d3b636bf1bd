"""Loops in C, compiled when first wanted: of recurrent layers, passes in bfloat16, audio's frames.

Only where there is a C compiler; without one, or with TACOSKIP_NATIVE=0, `loops()` is None, `why()`
says what is missing, and all runs in torch with the same results, to rounding. What was compiled
lies in the user's cache, by source, compiler and processor.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# NaN and infinity keep their meaning: a loss that is not finite must be seen.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
LINK = ("-shared", "-fPIC", "-pthread")
# Of gcc on Linux alone: so the loops run on the threads that torch already has. Another compiler's
# OpenMP would be a second one in the process.
OPENMP = "-fopenmp"
# What this processor has beyond the least of its kind; the first that the compiler knows.
TUNED = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
SECONDS = 60


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    """The compiled loops, or why there are none."""
    if os.environ.get("TACOSKIP_NATIVE") == "0":
        return None, "TACOSKIP_NATIVE=0"
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        return None, "no C compiler (cc, gcc or clang)"
    try:
        return ctypes.CDLL(str(_compiled(compiler))), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler} could not compile them ({' '.join(str(error).split())[-300:]})"


def loops() -> ctypes.CDLL | None:
    """The compiled loops, see the sources; None where there are none."""
    return _found()[0]


def why() -> str:
    """Why `loops()` is None; empty where it is not."""
    return _found()[1]


def _compiled(compiler: str) -> Path:
    """Compile, or find what was compiled."""
    named = subprocess.run(
        [compiler, "--version"], capture_output=True, timeout=SECONDS, check=True
    ).stdout
    sources = [path.read_bytes() for path in (*SOURCES, *HEADERS)]
    parts = [*sources, repr((FLAGS, LINK, TUNED, OPENMP)).encode(), named, _processor()]
    shared = (OPENMP,) if b"Free Software Foundation" in named and sys.platform == "linux" else ()
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = _cache()
    done = folder / f"loops-{key}.so"
    if done.is_file():
        return done
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / done.name
        for tuned in TUNED:
            command = [
                compiler,
                *FLAGS,
                *tuned,
                *shared,
                *LINK,
                *map(str, SOURCES),
                "-o",
                str(made),
            ]
            told = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
            if told.returncode == 0:
                break
        else:
            raise OSError(told.stderr.decode(errors="replace"))
        made.replace(done)
    return done


def _cache() -> Path:
    """A folder that is this user's alone: what lies in it is run."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "tacoskip"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder.stat()
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
        raise OSError(f"{folder} can be written by others: chmod 700 it")
    return folder


def _processor() -> bytes:
    """What tells processors apart, for homes that several machines share."""
    about = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        names = ("model name", "flags", "Features", "CPU part")
        about += sorted({line for line in lines if line.startswith(names)})
    except OSError:
        pass
    return "\n".join(about).encode()
