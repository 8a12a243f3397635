"""Sources as TorchCodec takes them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Callable, Optional, TypeVar, Union

import torch

from .._errors import MissingFileError

Source = Union[str, Path, IO[bytes], io.RawIOBase, io.BufferedReader, bytes, torch.Tensor]
Given = Union[str, bytes, IO[bytes]]
_Reader = TypeVar("_Reader")

#: More streams than files have.
_MOST_STREAMS = 4096


def plain(source: Source) -> Given:
    """What framerail's readers take."""
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, (str, bytes)):
        return source
    if isinstance(source, torch.Tensor):
        if source.dtype != torch.uint8 or source.ndim != 1:
            raise ValueError(f"source: a tensor of shape {tuple(source.shape)} and {source.dtype}; give a 1-D tensor of uint8")
        return source.cpu().contiguous().numpy().tobytes()
    if isinstance(source, io.TextIOBase):
        raise TypeError("source is for reading text, likely from open(..., 'r'). Try with 'rb' for binary reading?")
    if hasattr(source, "read") and hasattr(source, "seek"):
        return source  # type: ignore[return-value]
    raise TypeError(
        f"Unknown source type: {type(source)}. Supported types are str, Path, bytes, Tensor and file-like objects with "
        "read(self, size: int) -> bytes and seek(self, offset: int, whence: int) -> int methods."
    )


@contextmanager
def _as_torchcodec() -> Iterator[None]:
    """TorchCodec raises RuntimeError for what cannot be opened and for devices that it does not know."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"Could not open input file: {error}") from error
    except OSError as error:
        raise RuntimeError(f"Could not open input file: {error}") from error
    except ValueError as error:
        if str(error).startswith("option 'device'"):
            raise RuntimeError(str(error)) from error
        raise


def open_stream(index: Optional[int], kind: str, opened: Callable[[Optional[int]], _Reader], index_of: Callable[[_Reader], int]) -> _Reader:
    """Opens the stream with this number among all of the container; ``opened`` counts those of its kind."""
    if index is None:
        with _as_torchcodec():
            return opened(None)
    for number in range(min(index + 1, _MOST_STREAMS)):
        try:
            with _as_torchcodec():
                reader = opened(number)
        except ValueError as error:
            if not str(error).startswith("option 'stream'"):
                raise
            break
        if index_of(reader) == index:
            return reader
        reader.close()  # type: ignore[attr-defined]
    raise ValueError(f"No valid stream found in input file: {index} is not a valid stream: it is not there, or not {kind} stream.")
