"""The work of `tacoskip doctor`: what is installed, and what does not work here."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

PACKAGES = ("accelerate", "librosa", "numpy", "omegaconf", "tensorboard")
# What a default LJSpeech run leaves: the archive, the clips, the prepared clips, three checkpoints.
DISK_GB = 9.0


@dataclass
class Finding:
    """One line of the report. `ok` None: nothing is broken, but something does not work here."""

    name: str
    ok: bool | None
    detail: str


def examine() -> list[Finding]:
    """Examine this installation and machine; never raises, a broken part is a finding."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _torch,
        _torchaudio,
        _device,
        _half_precision,
        _kernels,
        _packages,
        _soundfile,
        _espeak,
        _cores,
        _disk,
    ]
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:  # a broken part must not end the report
            name = check.__name__.strip("_").replace("_", " ")
            reason = " ".join(str(error).split())[:300]
            findings.append(Finding(name, False, f"{type(error).__name__}: {reason}"))
    return findings


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info < (3, 14)
    hint = "" if supported else "; tacoskip supports Python 3.11 to 3.13"
    where = f"{platform.system()} {platform.machine()}"
    return Finding("python", supported, f"{platform.python_version()} on {where}{hint}")


def _torch() -> Finding:
    import torch

    return Finding("torch", True, torch.__version__)


def _torchaudio() -> Finding:
    import torch

    pair = f"with torch {torch.__version__}"
    try:
        import torchaudio

        torchaudio.functional.lfilter(torch.zeros(8), torch.ones(2), torch.ones(2))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        advice = "reinstall with `pip install -c constraints.txt -e .`"
        return Finding("torchaudio", False, f"does not load {pair}: {reason}; {advice}")
    return Finding("torchaudio", True, f"{torchaudio.__version__}, loads {pair}")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        cpu = (
            "no GPU: a CPU suffices for recipes demo, fsdd and arctic; ljspeech and vctk need a GPU"
        )
        return Finding("device", None, cpu)
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in found)
    return Finding("device", True, names)


def _half_precision() -> Finding:
    import torch

    name = "bf16"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported():
            return Finding(name, True, "on the GPU; train.precision=auto uses it")
        return Finding(name, None, "not on this GPU; use train.precision=fp16 or fp32")
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    unit = next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), "")
    if unit:
        return Finding(name, True, f"{unit} on the CPU; train.precision=bf16 may be faster")
    return Finding(name, None, "no bf16 unit found in the CPU; leave train.precision=auto (fp32)")


def _kernels() -> Finding:
    from tacoskip.kernels import cpu

    if cpu.library() is None:
        slower = "recurrent layers, features and Griffin-Lim run in torch, slower"
        return Finding("compiled kernels", None, f"none: {cpu.missing()}; {slower}")
    which = "recurrent layers, features and Griffin-Lim run in C on the CPU"
    return Finding("compiled kernels", True, which)


def _packages() -> Finding:
    missing = [name for name in PACKAGES if util.find_spec(name) is None]
    if missing:
        return Finding("packages", False, f"missing: {', '.join(missing)}")
    return Finding("packages", True, ", ".join(f"{p} {metadata.version(p)}" for p in PACKAGES))


def _soundfile() -> Finding:
    import soundfile

    formats = soundfile.available_formats()
    missing = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name not in formats]
    detail = f"libsndfile {soundfile.__libsndfile_version__.removeprefix('libsndfile-')}"
    if missing:
        return Finding("audio files", None, f"{detail}, cannot read {', '.join(missing)}")
    return Finding("audio files", True, f"{detail} reads wav, flac, ogg, mp3")


def _espeak() -> Finding:
    missing = [name for name in ("espeakng_loader", "phonemizer") if util.find_spec(name) is None]
    if missing:
        without = "without it no recipe=demo, no text.symbols=phonemes"
        how = "pip install 'tacoskip[espeak]'"
        return Finding("espeak", None, f"not installed: {without} ({how})")
    import ctypes

    import espeakng_loader

    ctypes.CDLL(espeakng_loader.get_library_path())
    version = metadata.version("espeakng-loader")
    return Finding("espeak", True, f"espeakng-loader {version}: demo corpus and phonemes work")


def _cores() -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        memory = f", {gigabytes:.1f} GiB of memory"
    threads = f"torch uses {torch.get_num_threads()} threads"
    return Finding("cores", True, f"{cores}{memory}, {threads}")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < DISK_GB:
        return Finding("disk", None, f"{free:.1f} GB free: LJSpeech needs about {DISK_GB:.0f} GB")
    return Finding("disk", True, f"{free:.1f} GB free")
