"""OpenCV's ``VideoCapture`` over framerail, for programs that read a video frame by frame.

``from framerail.compat.cv2 import VideoCapture`` in place of ``cv2.VideoCapture``; ``install()`` puts it into an installed ``cv2``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple, Union

import numpy as np

from .. import batches, errors, reader

if TYPE_CHECKING:
    from ..types import NumpyColumn, NumpyFrames

CAP_PROP_POS_MSEC = 0
CAP_PROP_POS_FRAMES = 1
CAP_PROP_POS_AVI_RATIO = 2
CAP_PROP_FRAME_WIDTH = 3
CAP_PROP_FRAME_HEIGHT = 4
CAP_PROP_FPS = 5
CAP_PROP_FOURCC = 6
CAP_PROP_FRAME_COUNT = 7
CAP_PROP_CONVERT_RGB = 16
CAP_PROP_SAR_NUM = 40
CAP_PROP_SAR_DEN = 41
CAP_PROP_BACKEND = 42
CAP_PROP_BITRATE = 47
CAP_PROP_ORIENTATION_META = 48
CAP_PROP_ORIENTATION_AUTO = 49
CAP_FFMPEG = 1900
CAP_ANY = 0

#: Four letters of codecs whose name is another.
_FOURCC = {"h264": "h264", "hevc": "hevc", "mpeg4": "FMP4", "av1": "av01", "vp9": "vp09", "vp8": "VP80", "mjpeg": "MJPG"}
#: Frames that are decoded ahead at a time.
_AHEAD = 4


class VideoCapture:
    """Reads frames in order as BGR arrays [height, width, 3].

    Parameters
    ----------
    filename : str or os.PathLike, optional
        A path or an address; cameras (numbers) are not read.
    apiPreference : int
        Ignored.
    params : sequence of int
        Ignored: pairs of a property's number and its value.
    device : str
        "cpu", or a GPU, whose frames are copied to the host.
    """

    def __init__(
        self,
        filename: Union[None, str, "os.PathLike[str]"] = None,
        apiPreference: int = CAP_ANY,
        params: Sequence[int] = (),
        *,
        device: str = "cpu",
    ) -> None:
        self._device, self._raises = device, False
        self._reader: Optional[reader.VideoReader[NumpyFrames, NumpyColumn]] = None
        self._batches: Optional[batches.BatchIterator[NumpyFrames, NumpyColumn]] = None
        self._ready: List[np.ndarray] = []
        self._grabbed: Optional[np.ndarray] = None
        #: Number of the frame that comes next.
        self._next = 0
        if filename is not None:
            self.open(filename, apiPreference)

    def open(self, filename: Union[str, "os.PathLike[str]"], apiPreference: int = CAP_ANY, params: Sequence[int] = ()) -> bool:
        """Opens a file; False for one that cannot be read, and a ValueError of that after ``setExceptionMode(True)``."""
        self.release()
        if not isinstance(filename, (str, os.PathLike)):
            raise TypeError(f"{filename!r}: cameras are read by OpenCV itself, or by a pipeline; give a path or an address")
        try:
            self._reader = reader.VideoReader(filename, device=self._device, layout="THWC", channels="bgr", output="numpy")
        except (OSError, errors.DecodeError, errors.UnsupportedError) as error:
            if self._raises:
                raise ValueError(str(error)) from error
            return False
        return True

    def isOpened(self) -> bool:
        """Whether a file is open."""
        return self._reader is not None

    def release(self) -> None:
        """Closes the file."""
        self._drop()
        if self._reader is not None:
            self._reader.close()
        self._reader, self._next = None, 0

    def _drop(self) -> None:
        if self._batches is not None:
            self._batches.close()
        self._batches, self._ready = None, []

    def grab(self) -> bool:
        """Takes the next frame for ``retrieve``; False at the end, and for what cannot be decoded."""
        self._grabbed = None
        if self._reader is None:
            return False
        if not self._ready:
            if self._batches is None:
                self._batches = self._reader.batches(_AHEAD, start=self._next)
            try:
                batch = next(self._batches)
            except (StopIteration, errors.DecodeError, OSError):
                return False
            self._ready = list(batch.data)
        self._grabbed = self._ready.pop(0)
        self._next += 1
        return True

    def retrieve(self, image: Optional[np.ndarray] = None, flag: int = 0) -> Tuple[bool, Optional[np.ndarray]]:
        """The frame that ``grab`` took."""
        if self._grabbed is None:
            return False, None
        if image is not None and image.shape == self._grabbed.shape:
            image[...] = self._grabbed
            return True, image
        return True, self._grabbed

    def read(self, image: Optional[np.ndarray] = None) -> Tuple[bool, Optional[np.ndarray]]:
        """The next frame: (True, array), or (False, None)."""
        return self.retrieve(image) if self.grab() else (False, None)

    def get(self, propId: int) -> float:
        """A property by OpenCV's number; 0 for those that are not known."""
        if self._reader is None:
            return 0.0
        known = self._reader.header
        if propId == CAP_PROP_FRAME_COUNT:
            return float(len(self._reader))
        if propId == CAP_PROP_POS_MSEC:
            seconds = self._reader.times.seconds
            return 1000.0 * float(seconds[min(max(self._next - 1, 0), len(seconds) - 1)]) if len(seconds) else 0.0
        if propId == CAP_PROP_POS_AVI_RATIO:
            return self._next / max(len(self._reader), 1)
        shape = Fraction(known.sample_aspect_ratio or 1)
        values: Dict[int, float] = {
            CAP_PROP_POS_FRAMES: float(self._next),
            CAP_PROP_FRAME_WIDTH: float(known.width),
            CAP_PROP_FRAME_HEIGHT: float(known.height),
            CAP_PROP_FPS: known.average_fps or 0.0,
            CAP_PROP_FOURCC: float(int.from_bytes(_FOURCC.get(known.codec, known.codec)[:4].ljust(4).encode(), "little")),
            CAP_PROP_CONVERT_RGB: 1.0,
            CAP_PROP_SAR_NUM: float(shape.numerator),
            CAP_PROP_SAR_DEN: float(shape.denominator),
            CAP_PROP_BITRATE: float((known.bit_rate or 0) // 1000),
            CAP_PROP_ORIENTATION_META: float(known.rotation or 0),
            CAP_PROP_ORIENTATION_AUTO: 1.0,
        }
        return values.get(propId, 0.0)

    def set(self, propId: int, value: float) -> bool:
        """Goes to a frame by number, time in milliseconds, or share of the video; False for other properties."""
        if self._reader is None:
            return False
        count = len(self._reader)
        if propId == CAP_PROP_POS_FRAMES:
            wanted = int(value)
        elif propId == CAP_PROP_POS_MSEC:
            wanted = int(np.searchsorted(self._reader.times.seconds, value / 1000.0, side="right")) - 1
        elif propId == CAP_PROP_POS_AVI_RATIO:
            wanted = int(value * count)
        else:
            return False
        self._drop()
        self._next = min(max(wanted, 0), count)
        return True

    def setExceptionMode(self, enable: bool) -> None:
        """Whether ``open`` raises for what cannot be read."""
        self._raises = bool(enable)

    def getExceptionMode(self) -> bool:
        """What ``setExceptionMode`` set."""
        return self._raises

    def getBackendName(self) -> str:
        """Which library decodes."""
        return "FRAMERAIL"


def install() -> None:
    """Puts ``VideoCapture`` into the installed ``cv2``."""
    import cv2  # type: ignore[import-not-found,unused-ignore]

    cv2.VideoCapture = VideoCapture  # type: ignore[misc,assignment,unused-ignore]
