"""TorchCodec's interface over framerail.

``from framerail.compat.torchcodec.decoders import VideoDecoder`` gives framerail under TorchCodec's names; ``install()`` serves programs
that import ``torchcodec`` themselves. Frames on the CPU equal TorchCodec's bit for bit: both convert with libswscale.
"""

from .._serve import Served
from . import decoders, encoders, samplers, transforms
from ._core import ffmpeg_major_version
from ._frame import AudioSamples, Frame, FrameBatch

#: The release of TorchCodec whose interface this is.
__version__ = "0.17.0"

_PARTS = (
    "",
    ".decoders",
    ".decoders._audio_decoder",
    ".decoders._video_decoder",
    ".encoders",
    ".encoders._multi_stream_encoder",
    ".samplers",
    ".samplers._common",
    ".samplers._index_based",
    ".samplers._time_based",
    ".transforms",
    "._core",
    "._core._metadata",
    "._frame",
)
_served = Served("torchcodec", __name__, _PARTS, __version__)


def install() -> None:
    """Makes ``import torchcodec`` give this package, in this process, also where TorchCodec is installed.

    Call it before importing what uses TorchCodec: modules that have taken ``VideoDecoder`` from the real package keep it.
    """
    _served.install()


def uninstall() -> None:
    """Undoes ``install``."""
    _served.uninstall()


__all__ = [
    "AudioSamples",
    "Frame",
    "FrameBatch",
    "decoders",
    "encoders",
    "ffmpeg_major_version",
    "install",
    "samplers",
    "transforms",
    "uninstall",
]
