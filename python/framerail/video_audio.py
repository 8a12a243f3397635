"""The audio of a video, on the clock of its frames."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

from . import _framerail
from .audio import SEEKS
from .options import choice, whole


class VideoAudio:
    """The audio streams of a reader's source, each opened on its first use: by number and seek mode."""

    def __init__(self) -> None:
        self._open: Dict[Tuple[Optional[int], bool], _framerail.Audio] = {}

    def stream(self, reader: _framerail.Reader, number: Optional[int], seek: str) -> _framerail.Audio:
        """A stream's compiled reader; reopened in a forked process."""
        key = (None if number is None else whole("stream", number, 0), choice("seek", seek, SEEKS) == "near")
        found = self._open.get(key)
        if found is None or not found.is_here():
            found = self._open[key] = reader.open_audio(*key)
        return found

    def close(self) -> None:
        """Closes all of them."""
        for compiled in self._open.values():
            compiled.close()
