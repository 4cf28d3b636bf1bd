"""Formats that libsndfile does not read (m4a, webm, ...), decoded by an installed ffmpeg."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SUFFIXES = (".m4a", ".mp4", ".webm", ".aac", ".wma", ".mka", ".mkv", ".mov", ".amr", ".3gp")

# No playlists or lists of other files, and no network: a stranger's file decodes itself alone.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,aac,amr"
LONGEST = 12 * 3600  # seconds of audio
LARGEST = 4_000_000_000  # bytes, decoded
TIMEOUT = 600  # seconds of work


@contextmanager
def decoded(path: Path) -> Iterator[Path]:
    """Yield a temporary wav with the file's first audio stream.

    Raises ValueError, in one line, when ffmpeg is not installed or cannot decode the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(
            f"{path}: {path.suffix} needs ffmpeg: install it, or convert the file elsewhere "
            f"(ffmpeg -i {path.name} {path.stem}.wav)"
        )
    with TemporaryDirectory(prefix="tacoskip-") as folder:
        target = Path(folder, "decoded.wav")
        command = [program, "-nostdin", "-v", "error", "-xerror"]
        command += ["-protocol_whitelist", "file", "-format_whitelist", FORMATS]
        command += ["-i", f"file:{path.resolve()}", "-map", "0:a:0", "-t", str(LONGEST)]
        command += ["-fs", str(LARGEST), "-c:a", "pcm_s16le", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{path}: ffmpeg took longer than {TIMEOUT} s") from None
        if done.returncode or not target.is_file():
            cause = " ".join(done.stderr.split())[-200:] or f"exit code {done.returncode}"
            raise ValueError(f"{path}: ffmpeg cannot decode it ({cause})")
        yield target
