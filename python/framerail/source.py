"""Sources of readers: paths, addresses, bytes and file objects."""

from __future__ import annotations

import io
import os
from typing import Any, Tuple

from . import remote

#: Bytes of the longest path that Linux opens.
_LONGEST_PATH = 4096


def printable(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
        if (shown := printable(path)) != path:
            # The compiled part takes names in UTF-8 only.
            return open(path, "rb"), shown  # noqa: SIM115 - the reader's
        file = remote.opened(path)
        return (path if file is None else file), path
    if isinstance(source, bytes):
        return _content(source), "<bytes>"
    if isinstance(source, io.TextIOBase):
        raise TypeError(f"source: {source!r} is opened for text; open it with mode 'rb'")
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = getattr(source, "name", None)
        return source, name if isinstance(name, str) else f"<{type(source).__name__}>"
    try:
        # A tensor of PyTorch has no buffer that Python sees.
        view = memoryview(source.numpy() if hasattr(source, "numpy") else source)
    except TypeError:
        raise TypeError(f"source: {source!r}; give a path, an address, bytes, or a file opened with mode 'rb'") from None
    if view.itemsize != 1 or view.ndim != 1:
        raise TypeError(f"source: {view.ndim} axes of elements of {view.itemsize} bytes; give the bytes of a file, with one axis")
    return _content(view.tobytes()), "<bytes>"


def _content(content: bytes) -> bytes:
    if len(content) < _LONGEST_PATH and b"\0" not in content and os.path.exists(content):
        raise TypeError(f"source: {content!r} is a path, and bytes are taken as the content of a file; give os.fsdecode() of it")
    return content


def name_of(source: Any) -> str:
    """The name of a source in messages."""
    return opened(source)[1]
