"""Other readers' interfaces over framerail's reader: ``torchcodec``, ``decord`` and ``cv2``.

Each is a translation: what a method needs is done by ``framerail.VideoReader``, ``AudioReader`` and ``VideoWriter``. See
``docs/switching.md``.
"""

import json

from .. import _framerail


def _ffmpeg_version() -> str:
    """FFmpeg's release, such as "5.1.9-0+deb12u1"."""
    return str(json.loads(_framerail.ffmpeg())["version"])
