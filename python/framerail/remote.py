"""Files on remote storage, read in blocks that are kept.

A reader goes to and fro in a file: header, index at the end, groups of pictures. Blocks of 1 MiB are fetched once, with one request each,
and the latest 64 MiB of them are kept.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Union

from .options import bad, whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-not-found,import-untyped,unused-ignore]

    Option = Union[None, str, bool, int, float, Dict[str, Union[None, str, bool, int, float]]]

#: Schemes that FFmpeg, or framerail itself, opens.
_OWN = frozenset(
    ("concat", "crypto", "data", "file", "ftp", "hls", "http", "https", "pipe", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "satip", "sdp",
     "srt", "srtp", "tcp", "tls", "udp", "unix")
)  # fmt: skip


class RemoteFile(io.RawIOBase):
    """A file of an fsspec file system, for ``VideoReader``, ``AudioReader`` and everything that reads and seeks.

    Parameters
    ----------
    url : str
        An address that fsspec knows, such as "s3://bucket/clip.mp4", "gs://...", "hf://..." or "zip://clip.mp4::s3://bucket/clips.zip".
    block_bytes : int
        Bytes of a request, from 4096.
    keep_bytes : int
        Bytes of blocks that are kept.
    **storage_options
        Options of the file system, such as ``anon=True`` for S3.

    Raises
    ------
    ImportError
        When fsspec, or its package for this kind of storage, is not installed.
    FileNotFoundError, PermissionError, OSError

    Examples
    --------
    >>> import framerail as fr
    >>> r = fr.VideoReader(fr.RemoteFile("s3://bucket/clip.mp4", anon=True))  # doctest: +SKIP
    """

    def __init__(self, url: str, *, block_bytes: int = 1 << 20, keep_bytes: int = 64 << 20, **storage_options: "Option") -> None:
        super().__init__()
        try:
            import fsspec
        except ImportError:
            raise ImportError(f"{url}: reading it needs fsspec; pip install fsspec, and its package for this storage") from None
        self._block = whole("block_bytes", block_bytes, 4096)
        if whole("keep_bytes", keep_bytes, 0) < 2 * self._block:
            raise bad("keep_bytes", keep_bytes, f"at least {2 * self._block}, two blocks")
        self._keep = keep_bytes // self._block
        self._given: Tuple[str, int, int, Dict[str, Option]] = (url, block_bytes, keep_bytes, storage_options)
        self.name = url
        found: Tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(url, **storage_options)
        self._system, self._path = found
        self._size = int(self._system.size(self._path) or 0)
        self._position = 0
        self._blocks: "OrderedDict[int, bytes]" = OrderedDict()
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def requests(self) -> int:
        """Blocks that were fetched so far."""
        return self._requests

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"{self.name}: cannot go to byte {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes from the current place on; all of the rest below 0."""
        with self._lock:
            end = self._size if size < 0 else min(self._position + size, self._size)
            parts = []
            at = self._position
            while at < end:
                number, within = divmod(at, self._block)
                part = self._fetched(number)[within : within + end - at]
                if not part:
                    raise OSError(f"{self.name}: ends at byte {at}, and is stated to have {self._size}")
                parts.append(part)
                at += len(part)
            self._position = max(at, self._position)
            return b"".join(parts)

    def readinto(self, buffer: "Union[bytearray, memoryview]") -> int:  # type: ignore[override]
        """Reads into a buffer; the number of bytes."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _fetched(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            start = number * self._block
            fetched: Any = self._system.cat_file(self._path, start=start, end=min(start + self._block, self._size))
            block = bytes(fetched)
            self._requests += 1
        self._blocks[number] = block
        while len(self._blocks) > self._keep:
            self._blocks.popitem(last=False)
        return block

    def __reduce__(self) -> Tuple[object, ...]:
        return _opened, self._given

    def __repr__(self) -> str:
        return f"RemoteFile({self.name!r}, {self._size} bytes, {self._requests} requests)"


def _opened(url: str, block_bytes: int, keep_bytes: int, storage_options: "Dict[str, Option]") -> RemoteFile:
    return RemoteFile(url, block_bytes=block_bytes, keep_bytes=keep_bytes, **storage_options)


def opened(address: str) -> Optional[RemoteFile]:
    """A file for an address that neither FFmpeg nor framerail opens; None for paths, and addresses that they do open."""
    scheme, found, _ = address.partition("://")
    name = scheme.split("::")[-1].split(":")[0].lower()
    if not found or name in _OWN or not name.replace("+", "").replace("-", "").isalnum():
        return None
    try:
        from fsspec import available_protocols
    except ImportError:
        return None
    return RemoteFile(address) if name in available_protocols() else None
