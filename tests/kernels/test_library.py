"""Compiling the kernels, and their structures."""

import shutil
from pathlib import Path

import pytest
import torch

from tacoskip.kernels import cpu
from tacoskip.kernels.cpu import attention_loop, batch_norm, gru
from tacoskip.kernels.cpu.networks import PREFIX, has_kernels


@pytest.mark.parametrize("dtype", PREFIX)
def test_structures_have_the_fields_of_the_kernels(dtype: torch.dtype) -> None:
    if not has_kernels(dtype):
        pytest.skip(cpu.missing() or "no bfloat16 on this processor")
    fields = {
        "gru": gru.FIELDS,
        "loop": attention_loop.FIELDS,
        "norm": batch_norm.FIELDS,
    }
    for name, names in fields.items():
        assert getattr(cpu.library(), f"{PREFIX[dtype]}_{name}_size")() == 8 * len(names)


def test_missing_kernels_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No compiler, a compiler that fails, a cache that others can write, or none wanted."""
    load = cpu._load.__wrapped__
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TACOSKIP_KERNELS", "0")
    assert load() == (None, "TACOSKIP_KERNELS=0")
    monkeypatch.delenv("TACOSKIP_KERNELS")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load() == (None, "no C compiler (cc, gcc or clang)")
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\necho no >&2\n[ "$1" = --version ]\n')
    broken.chmod(0o755)
    library, reason = load()
    assert library is None and reason.startswith(f"{broken} could not compile them (no")
    assert not list((tmp_path / "cache").rglob("*.so"))
    (tmp_path / "cache" / "tacoskip").chmod(0o777)
    assert "can be written by others" in load()[1]


def test_kernels_are_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if cpu.library() is None:
        pytest.skip(cpu.missing())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cpu._load.__wrapped__()[0] is not None
    (built,) = (tmp_path / "tacoskip").iterdir()
    written = built.stat().st_mtime_ns
    assert cpu._load.__wrapped__()[0] is not None
    assert built.stat().st_mtime_ns == written


@pytest.mark.hostile
def test_damaged_library_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To load one that is cut short would end the process by SIGBUS."""
    if cpu.library() is None:
        pytest.skip(cpu.missing())
    monkeypatch.setattr(cpu, "TUNED", ((),))
    monkeypatch.setattr(cpu, "FLAGS", ("-O0",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = shutil.which("cc") or shutil.which("gcc") or "clang"
    built = cpu._compile(compiler)
    whole = built.read_bytes()
    for damaged in (b"", whole[:5000], whole[:-1] + b"x"):
        built.write_bytes(damaged)
        assert cpu._compile(compiler) == built and built.read_bytes() == whole
        assert list(built.parent.iterdir()) == [built]
