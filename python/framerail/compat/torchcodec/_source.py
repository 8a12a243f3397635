"""Sources as TorchCodec takes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Callable, Optional, TypeVar, Union

import torch

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


def open_stream(index: Optional[int], opened: Callable[[Optional[int]], _Reader], index_of: Callable[[_Reader], int]) -> _Reader:
    """Opens the stream with this number among all of the container; ``opened`` counts those of its kind."""
    if index is None:
        return opened(None)
    for number in range(min(index + 1, _MOST_STREAMS)):
        try:
            reader = opened(number)
        except ValueError:
            break
        if index_of(reader) == index:
            return reader
        reader.close()  # type: ignore[attr-defined]
    raise ValueError(f"No valid stream found in input file: stream {index} is not there, or not of this kind. Is it corrupted?")
