"""Files on remote storage, read in cached blocks.

A reader seeks a lot in a file: header, index at the end, groups of pictures. Blocks of 1 MiB are fetched once and the latest 64 MiB of
them are kept, for all readers of one address together. Where reading goes on in order, several blocks come with one request, and the next
ones are fetched while the caller works.
"""

from __future__ import annotations

import importlib.util
import io
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple, TypeVar, Union

from .options import bad, whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-not-found,import-untyped,unused-ignore]

    Option = Union[None, str, bool, int, float, Dict[str, Union[None, str, bool, int, float]]]

_Found = TypeVar("_Found")

#: Schemes that FFmpeg, or framerail itself, opens.
_OWN = frozenset(
    ("concat", "crypto", "data", "file", "ftp", "hls", "http", "https", "pipe", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "satip", "sdp",
     "srt", "srtp", "tcp", "tls", "udp", "unix")
)  # fmt: skip
#: Schemes of object storage that framerail opens too, with fsspec's package for each, which is used where it is installed.
_STORAGE = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub",
}  # fmt: skip
#: Maximum blocks in one request, in sequential reading.
_WINDOW = 8
#: Number of sequential requests from which blocks are fetched ahead.
_STEADY = 3
#: Attempts of a request with a temporary failure, and the pause before the second; it doubles each time.
_TRIES = 5
_PAUSE_SECS = 0.1


class _Blocks:
    """The bytes of one remote file, as far as they were fetched; shared by its open file objects."""

    def __init__(self, url: str, block: int, keep: int, options: "Dict[str, Option]"):
        try:
            import fsspec
        except ImportError:
            raise ImportError(f"{url}: reading it needs fsspec; pip install fsspec, and its package for this storage") from None
        self.name, self.block, self._keep = url, block, keep
        found: Tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(url, **options)
        self._system, self._path = found
        self.requests = self.bytes = self.retries = 0
        try:
            self.size = int(self._tried(lambda: self._system.size(self._path)) or 0)
        except FileNotFoundError as error:
            # Most file systems name the path alone.
            raise FileNotFoundError(f"{url}: no such file; check the name") from error
        self._kept: "OrderedDict[int, bytes]" = OrderedDict()
        self._lock = threading.Lock()
        self._ahead: Optional[Tuple[int, int, "Future[bytes]"]] = None
        self._pool: Optional[ThreadPoolExecutor] = None
        # The block after the last request, and the number of sequential requests so far.
        self._next, self._run = -1, 0

    def at(self, number: int) -> bytes:
        """One block."""
        with self._lock:
            block = self._kept.pop(number, None)
            if block is None:
                self._fetch(number)
                block = self._kept.pop(number)
            self._kept[number] = block
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
            return block

    def _fetch(self, number: int) -> None:
        """Fetches a block, and the following ones in sequential reading."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] <= number < ahead[0] + ahead[1]:
            first, count, coming = ahead
            found = coming.result()
            self._run += 1
        else:
            self._run = self._run + 1 if number == self._next else 0
            first, count = number, self._window()
            found = self._range(first, count)
        for place in range(count):
            part = found[place * self.block : (place + 1) * self.block]
            if part:
                self._kept[first + place] = part
        if number not in self._kept:
            raise OSError(f"{self.name}: ends at byte {number * self.block}, but has {self.size} bytes according to the storage")
        self._next = first + count
        if self._run >= _STEADY and self._next * self.block < self.size:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "framerail-remote")
            count = self._window()
            self._ahead = (self._next, count, self._pool.submit(self._range, self._next, count))

    def _window(self) -> int:
        """Number of blocks of the next request: few for a group of pictures, more if a whole file is read."""
        return max(min(1 << max(self._run - 1, 0), _WINDOW, self._keep // 4), 1)

    def _range(self, first: int, count: int) -> bytes:
        start, end = first * self.block, min((first + count) * self.block, self.size)

        def fetch() -> bytes:
            self.requests += 1
            found = bytes(self._system.cat_file(self._path, start=start, end=end))
            self.bytes += len(found)
            if len(found) < end - start:
                raise OSError(f"the storage returned {len(found)} bytes of {end - start} from byte {start} on")
            return found

        return self._tried(fetch)

    def _tried(self, work: Callable[[], _Found]) -> _Found:
        """Retries after temporary failures: a broken connection, a busy server."""
        for attempt in range(_TRIES):
            try:
                return work()
            except (FileNotFoundError, PermissionError, IsADirectoryError):
                raise
            except (OSError, TimeoutError, EOFError) as error:
                if attempt + 1 == _TRIES:
                    raise OSError(f"{self.name}: {str(error) or type(error).__name__} (tried {_TRIES} times)") from error
                self.retries += 1
                time.sleep(_PAUSE_SECS * 2**attempt)
        raise AssertionError


class RemoteFile(io.RawIOBase):
    """A file of an fsspec file system, for ``VideoReader``, ``AudioReader`` and everything that reads and seeks.

    Parameters
    ----------
    url : str
        An address that fsspec knows, such as "s3://bucket/clip.mp4", "gs://...", "hf://..." or "zip://clip.mp4::s3://bucket/clips.zip".
    block_bytes : int
        Bytes of a block, from 4096. A request takes one block, or up to eight where reading goes on in order.
    keep_bytes : int
        Bytes of blocks that are kept.
    **storage_options
        Options of the file system, such as ``anon=True`` for S3.

    Raises
    ------
    ImportError
        When fsspec, or its package for this kind of storage, is not installed.
    FileNotFoundError, PermissionError, OSError
        Requests that fail for a reason that may pass are tried five times.

    Examples
    --------
    >>> import framerail as fr
    >>> r = fr.VideoReader(fr.RemoteFile("s3://bucket/clip.mp4", anon=True))  # doctest: +SKIP
    """

    def __init__(self, url: str, *, block_bytes: int = 1 << 20, keep_bytes: int = 64 << 20, **storage_options: "Option") -> None:
        super().__init__()
        block = whole("block_bytes", block_bytes, 4096)
        if whole("keep_bytes", keep_bytes, 0) < 2 * block:
            raise bad("keep_bytes", keep_bytes, f"at least {2 * block}, two blocks")
        self._given: Tuple[str, int, int, Dict[str, Option]] = (url, block_bytes, keep_bytes, storage_options)
        self._of(_Blocks(url, block, keep_bytes // block, storage_options))

    def _of(self, blocks: _Blocks) -> None:
        self._shared = blocks
        self.name = blocks.name
        self._position = 0
        self._lock = threading.Lock()

    def reopened(self) -> RemoteFile:
        """A second file object at the first byte, which shares the cached blocks of this one."""
        other = RemoteFile.__new__(RemoteFile)
        io.RawIOBase.__init__(other)
        other._given = self._given
        other._of(self._shared)
        return other

    @property
    def requests(self) -> int:
        """Requests for bytes so far, by all files that share blocks."""
        return self._shared.requests

    @property
    def stats(self) -> Dict[str, int]:
        """Bytes fetched so far: "requests", "bytes", "retries", and the file's "size_bytes"."""
        shared = self._shared
        return {"requests": shared.requests, "bytes": shared.bytes, "retries": shared.retries, "size_bytes": shared.size}

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a byte position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._shared.size}[whence]
        if base + offset < 0:
            raise OSError(f"{self.name}: cannot seek to byte {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Reads up to ``size`` bytes from the current position; all remaining bytes if ``size`` is negative."""
        with self._lock:
            shared = self._shared
            end = shared.size if size < 0 else min(self._position + size, shared.size)
            parts: List[bytes] = []
            at = self._position
            while at < end:
                number, within = divmod(at, shared.block)
                part = shared.at(number)[within : within + end - at]
                if not part:
                    raise OSError(f"{self.name}: ends at byte {at}, but has {shared.size} bytes according to the storage")
                parts.append(part)
                at += len(part)
            self._position = max(at, self._position)
            return b"".join(parts)

    def readinto(self, buffer: "Union[bytearray, memoryview]") -> int:  # type: ignore[override]
        """Reads into a buffer and returns the number of bytes."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def __reduce__(self) -> Tuple[object, ...]:
        return _opened, self._given

    def __repr__(self) -> str:
        return f"RemoteFile({self.name!r}, {self._shared.size} bytes, {self.requests} requests)"


def _opened(url: str, block_bytes: int, keep_bytes: int, storage_options: "Dict[str, Option]") -> RemoteFile:
    return RemoteFile(url, block_bytes=block_bytes, keep_bytes=keep_bytes, **storage_options)


def is_remote(address: str) -> bool:
    """Whether fsspec opens an address: neither FFmpeg nor framerail does, or its package for that storage is installed."""
    scheme, found, _ = address.partition("://")
    name = scheme.split("::")[-1].split(":")[0].lower()
    if not found or name in _OWN or not name.replace("+", "").replace("-", "").isalnum():
        return False
    if name in _STORAGE and importlib.util.find_spec(_STORAGE[name]) is None:
        return False
    try:
        from fsspec import available_protocols
    except ImportError:
        return False
    return name in available_protocols()


def opened(address: str) -> Optional[RemoteFile]:
    """A file for an address that neither FFmpeg nor framerail opens; None for paths, and addresses that they do open."""
    return RemoteFile(address) if is_remote(address) else None


class _Opener:
    """Opens one address as often as a pipeline needs it, over blocks that are fetched once."""

    def __init__(self, address: str, file: Optional[RemoteFile] = None):
        self._address = address
        self.file = file
        self._lock = threading.Lock()

    def __call__(self) -> RemoteFile:
        with self._lock:
            if self.file is None:
                self.file = RemoteFile(self._address)
            return self.file.reopened()


class Finder:
    """Finds openers for the addresses of a pipeline; counts what was fetched."""

    def __init__(self) -> None:
        self._openers: Dict[str, _Opener] = {}

    def __call__(self, address: str) -> Optional[_Opener]:
        if not is_remote(address):
            return None
        return self._openers.setdefault(address, _Opener(address))

    @property
    def stats(self) -> Dict[str, Dict[str, int]]:
        """What was fetched, by address."""
        return {address: opener.file.stats for address, opener in self._openers.items() if opener.file is not None}
