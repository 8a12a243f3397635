"""decord's interface over framerail.

``from framerail.compat.decord import VideoReader, cpu`` gives framerail under decord's names; ``install()`` serves programs that import
``decord`` themselves.
"""

from .._serve import Served
from . import base, bridge, logging, ndarray
from . import ndarray as nd
from ._readers import AudioReader, AVReader, VideoReader
from .base import ALL, DECORDError, DECORDLimitReachedError
from .ndarray import Context, cpu, gpu
from .video_loader import VideoLoader

#: The release of decord whose interface this is.
__version__ = "0.6.0"

_PARTS = ("", ".audio_reader", ".av_reader", ".base", ".bridge", ".logging", ".ndarray", ".video_loader", ".video_reader")
_served = Served("decord", __name__, _PARTS, __version__)


def install() -> None:
    """Makes ``import decord`` give this package, in this process, also where decord is installed."""
    _served.install()


def uninstall() -> None:
    """Undoes ``install``."""
    _served.uninstall()


__all__ = [
    "ALL",
    "AVReader",
    "AudioReader",
    "Context",
    "DECORDError",
    "DECORDLimitReachedError",
    "VideoLoader",
    "VideoReader",
    "base",
    "bridge",
    "cpu",
    "gpu",
    "install",
    "logging",
    "nd",
    "ndarray",
    "uninstall",
]
