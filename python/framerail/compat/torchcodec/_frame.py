"""What decoders hand out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import List, Tuple, Union

import torch


def _shown(value: Union["Frame", "FrameBatch", "AudioSamples"]) -> str:
    """Each field on a line; of data, the shape alone."""
    lines: List[str] = [f"{type(value).__name__}:"]
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        lines.append(f"  data (shape): {content.shape}" if field.name == "data" else f"  {field.name}: {content}")
    return "\n".join(lines) + "\n"


@dataclasses.dataclass(repr=False)
class Frame(Iterable):  # type: ignore[type-arg]
    """One frame: ``data`` of three axes, and its place in time in seconds."""

    data: torch.Tensor
    pts_seconds: float
    duration_seconds: float

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"data must be 3-dimensional, got {self.data.shape = }")
        self.pts_seconds = float(self.pts_seconds)
        self.duration_seconds = float(self.duration_seconds)

    def __iter__(self) -> Iterator[Union[torch.Tensor, float]]:
        return iter((self.data, self.pts_seconds, self.duration_seconds))

    def __repr__(self) -> str:
        return _shown(self)


@dataclasses.dataclass(repr=False)
class FrameBatch(Iterable):  # type: ignore[type-arg]
    """Frames [N, ...], or clips [N, T, ...], with a time and a duration for each."""

    data: torch.Tensor
    pts_seconds: torch.Tensor
    duration_seconds: torch.Tensor

    def __post_init__(self) -> None:
        if self.data.ndim < 3:
            raise ValueError(f"data must be at least 3-dimensional, got {self.data.shape = }")
        leading = self.data.shape[:-3]
        if not leading == self.pts_seconds.shape == self.duration_seconds.shape:
            raise ValueError(
                "Tried to create a FrameBatch but the leading dimensions of the inputs do not match. "
                f"Got {self.data.shape = }, {self.pts_seconds.shape = } and {self.duration_seconds.shape = }."
            )

    def __iter__(self) -> Iterator[FrameBatch]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, key: Union[int, slice, torch.Tensor, List[int], Tuple[int, ...]]) -> FrameBatch:
        return FrameBatch(self.data[key], self.pts_seconds[key], self.duration_seconds[key])

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return _shown(self)


@dataclasses.dataclass(repr=False)
class AudioSamples(Iterable):  # type: ignore[type-arg]
    """Samples [channels, samples] from -1 to 1."""

    data: torch.Tensor
    pts_seconds: float
    duration_seconds: float
    sample_rate: int

    def __post_init__(self) -> None:
        if self.data.ndim != 2:
            raise ValueError(f"data must be 2-dimensional, got {self.data.shape = }")
        self.pts_seconds = float(self.pts_seconds)
        self.sample_rate = int(self.sample_rate)

    def __iter__(self) -> Iterator[Union[torch.Tensor, float, int]]:
        return iter((self.data, self.pts_seconds, self.duration_seconds, self.sample_rate))

    def __repr__(self) -> str:
        return _shown(self)
