"""Keep memory between training steps instead of giving it back to the system and faulting it in
again.
"""

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_memory() -> bool:
    """Tell glibc's malloc to keep what is freed for the next step, and for whichever thread
    wants it; returns whether it listened.

    Every step frees and asks for the same large tensors; by default each comes as fresh pages from
    the kernel. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    values = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 1 << 26, M_ARENA_MAX: 1}
    kept = [mallopt(which, value) for which, value in values.items()]
    return all(kept)
