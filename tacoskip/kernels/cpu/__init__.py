"""Kernels in C, compiled on first use: recurrent layers, batch norm, the audio's transforms.

Where there is no C compiler, or with TACOSKIP_KERNELS=0, `library()` is None, `missing()` says why,
and everything runs in torch with the same results to rounding. The compiled library lies in the
user's cache, named by source, compiler and processor, and by its own contents.
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
from typing import Any

import torch
from torch import Tensor

from tacoskip.files import user_cache

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# NaN and infinity keep their meaning: a loss that is not finite must be seen.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
LINK = ("-shared", "-fPIC", "-pthread")
# Only gcc on Linux: its OpenMP is torch's own, so kernels run on the threads that torch has.
OPENMP = "-fopenmp"
# Compiler flags for this CPU's instruction set; the first that the compiler knows.
TUNED = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
SECONDS = 300  # to compile, on a machine that others use too


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The compiled library, or None and why there is none."""
    if os.environ.get("TACOSKIP_KERNELS") == "0":
        return None, "TACOSKIP_KERNELS=0"
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        return None, "no C compiler (cc, gcc or clang)"
    try:
        return ctypes.CDLL(str(_compile(compiler))), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler} could not compile them ({' '.join(str(error).split())[-300:]})"


def library() -> ctypes.CDLL | None:
    """The compiled kernels, see the sources; None where there are none."""
    return _load()[0]


def missing() -> str:
    """Why `library()` is None; empty where it is not."""
    return _load()[1]


def is_supported(x: Tensor) -> bool:
    """Whether x is a float32 tensor on the CPU and kernels are there."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


def run(name: str, *arguments: Any) -> None:
    """Call the kernel `name`; MemoryError where it says that there was none left."""
    kernels = library()
    assert kernels is not None, "ask is_supported first"
    if not getattr(kernels, name)(*arguments):
        raise MemoryError(f"not enough memory for the kernel {name}")


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    """Address of a tensor's numbers, or NULL."""
    return ctypes.c_void_p(x.data_ptr() if x is not None else None)


def threads() -> ctypes.c_int64:
    """As many threads as torch uses."""
    return ctypes.c_int64(torch.get_num_threads())


def _compile(compiler: str) -> Path:
    """Compile the sources, or find them compiled."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, timeout=SECONDS, check=True
    ).stdout
    sources = [path.read_bytes() for path in (*SOURCES, *HEADERS)]
    parts = [*sources, repr((FLAGS, LINK, TUNED, OPENMP)).encode(), version, _processor()]
    shared = (OPENMP,) if b"Free Software Foundation" in version and sys.platform == "linux" else ()
    name, folder = f"kernels-{_digest(*parts)}", user_cache()
    for found in folder.glob(f"{name}-*.so"):
        if found.stem == f"{name}-{_digest(found.read_bytes())}":
            return found
        # It was cut short, by a full disk for instance: to run it would end the process.
        found.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / "kernels.so"
        for tuned in TUNED:
            flags = [*FLAGS, *tuned, *shared, *LINK]
            command = [compiler, *flags, *map(str, SOURCES), "-o", str(built)]
            result = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
            if result.returncode == 0:
                return built.replace(folder / f"{name}-{_digest(built.read_bytes())}.so")
        raise OSError(result.stderr.decode(errors="replace"))


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> bytes:
    """Tells processors apart, for home folders that several machines share."""
    about = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        names = ("model name", "flags", "Features", "CPU part")
        about += sorted({line for line in lines if line.startswith(names)})
    except OSError:
        pass
    return "\n".join(about).encode()
