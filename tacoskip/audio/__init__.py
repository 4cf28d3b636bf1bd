"""Sound in and out: files, the front end, its inversion, trimming.

Names load on first use, so that the settings, which every command reads, need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tacoskip.audio.settings import AudioSettings, GriffinLimSettings

if TYPE_CHECKING:
    from tacoskip.audio.features import FrontEnd
    from tacoskip.audio.inversion import griffin_lim
    from tacoskip.audio.io import decode_audio, read_audio, stream_audio, write_audio
    from tacoskip.audio.trim import trim_silence

__all__ = [
    "AudioSettings",
    "FrontEnd",
    "GriffinLimSettings",
    "decode_audio",
    "griffin_lim",
    "read_audio",
    "stream_audio",
    "trim_silence",
    "write_audio",
]

_MODULES = {
    "FrontEnd": "features",
    "griffin_lim": "inversion",
    "trim_silence": "trim",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'io')}"), name)
