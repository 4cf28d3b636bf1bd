"""`doctor`: what is installed, and what does not work here."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

from tacoskip.cli.console import Result, command, table

# What a default LJSpeech run leaves: the archive, the clips, the prepared clips, three checkpoints.
DISK_GB = 9.0

# True: it works; None: nothing is broken, but something does not work here; and the detail.
Finding = tuple[bool | None, str]


@command
def doctor() -> Result:
    """Report what is installed and what does not work here."""
    found = examine()
    healthy = all(one["ok"] is not False for one in found)
    words = {True: "ok", None: "note", False: "BROKEN"}
    rows = [[words[one["ok"]], one["name"], one["detail"]] for one in found]
    return Result({"healthy": healthy, "checks": found}, [table([""] * 3, rows, wrap=("",))])


def examine() -> list[dict[str, Any]]:
    """Examine this installation and machine; never raises, a broken part is a finding."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "torch": _torch,
        "torchaudio": _torchaudio,
        "device": _device,
        "bf16": _bf16,
        "compiled kernels": _kernels,
        "audio files": _soundfile,
        "espeak": _espeak,
        "cores": _cores,
        "disk": _disk,
    }
    findings = []
    for name, check in checks.items():
        try:
            ok, detail = check()
        except Exception as error:  # a broken part must not end the report
            reason = " ".join(str(error).split())[:300]
            ok, detail = False, f"{type(error).__name__}: {reason}"
        findings.append({"name": name, "ok": ok, "detail": detail})
    return findings


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info < (3, 14)
    hint = "" if supported else "; tacoskip supports Python 3.11 to 3.13"
    where = f"{platform.system()} {platform.machine()}"
    return supported, f"{platform.python_version()} on {where}{hint}"


def _torch() -> Finding:
    import torch

    return True, torch.__version__


def _torchaudio() -> Finding:
    import torch

    pair = f"with torch {torch.__version__}"
    try:
        import torchaudio

        torchaudio.functional.lfilter(torch.zeros(8), torch.ones(2), torch.ones(2))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        advice = "reinstall with `pip install -c constraints.txt -e .`"
        return False, f"does not load {pair}: {reason}; {advice}"
    return True, f"{torchaudio.__version__}, loads {pair}"


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        fast = "recipes demo, fsdd and arctic"
        return None, f"no GPU: a CPU suffices for {fast}; ljspeech and vctk need a GPU"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return True, ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)


def _bf16() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return None, "a CPU needs AMX or AVX-512 for it; leave train.precision=auto (fp32)"
    if torch.cuda.is_bf16_supported():
        return True, "on the GPU; train.precision=auto uses it"
    return None, "not on this GPU; use train.precision=fp16 or fp32"


def _kernels() -> Finding:
    from tacoskip.kernels import cpu

    parts = "recurrent layers, features and Griffin-Lim run in"
    if cpu.library() is None:
        return None, f"none: {cpu.missing()}; {parts} torch, slower"
    return True, f"{parts} C on the CPU"


def _soundfile() -> Finding:
    import soundfile

    return True, f"soundfile with {soundfile.__libsndfile_version__}: wav, flac, ogg, mp3"


def _espeak() -> Finding:
    if any(util.find_spec(name) is None for name in ("espeakng_loader", "phonemizer")):
        without = "without it no recipe=demo, no text.symbols=phonemes"
        return None, f"not installed: {without} (pip install 'tacoskip[espeak]')"
    import ctypes

    import espeakng_loader

    ctypes.CDLL(espeakng_loader.get_library_path())
    version = metadata.version("espeakng-loader")
    return True, f"espeakng-loader {version}: demo corpus and phonemes work"


def _cores() -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, f"{cores}; threads of torch: {torch.get_num_threads()}"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < DISK_GB:
        return None, f"{free:.1f} GB free: LJSpeech needs about {DISK_GB:.0f} GB"
    return True, f"{free:.1f} GB free"
