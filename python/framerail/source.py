"""Sources of readers: paths, addresses, bytes and file objects."""

from __future__ import annotations

import io
import os
from typing import Any, Tuple

from . import remote


def opened(source: Any) -> Tuple[Any, str]:
    """The source for the compiled part, and its name in messages.

    Raises
    ------
    TypeError
        For objects that are not sources.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        if not path:
            raise FileNotFoundError("source: an empty path; give a path, an address, bytes, or a file opened with mode 'rb'")
        file = remote.opened(path)
        return (path if file is None else file), path
    if isinstance(source, bytes):
        return source, "<bytes>"
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source), "<bytes>"
    if isinstance(source, io.TextIOBase):
        raise TypeError(f"source: {source!r} is opened for text; open it with mode 'rb'")
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = getattr(source, "name", None)
        return source, name if isinstance(name, str) else f"<{type(source).__name__}>"
    raise TypeError(f"source: {source!r}; give a path, an address, bytes, or a file opened with mode 'rb'")


def name_of(source: Any) -> str:
    """The name of a source in messages."""
    return opened(source)[1]
