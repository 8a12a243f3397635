"""Audio for the clips of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List, TypedDict

import torch

from .audio import SEEKS, AudioReader
from .errors import DecodeError
from .options import choice, real, whole
from .types import Source

#: Files that are read concurrently.
_THREADS = 8


class ClipSound(TypedDict):
    """The values that ``ClipAudio`` adds to an item: audio [channels, samples], and whether the source has audio there."""

    audio: torch.Tensor
    has_audio: bool


@dataclass(frozen=True)
class ClipAudio:
    """The audio from a clip's first frame.

    Parameters
    ----------
    sample_rate : int
        Samples per second.
    seconds : float
        Length; beyond the end of the audio there is silence.
    channels : int
        Channels, mixed by FFmpeg's rules.
    seek : str
        As in ``AudioReader``: "exact", or "near", which is faster far into a long file.
    """

    sample_rate: int
    seconds: float
    channels: int = 1
    seek: str = "exact"

    def __post_init__(self) -> None:
        whole("sample_rate", self.sample_rate, 1)
        real("seconds", self.seconds, "seconds above 0", above=0.0)
        whole("channels", self.channels, 1)
        choice("seek", self.seek, SEEKS)

    def read(self, source: Source, start: float) -> ClipSound:
        """The audio of a source from a given time; silence where there is none."""
        count = max(1, round(self.seconds * self.sample_rate))
        samples = torch.zeros(self.channels, count)
        try:
            with AudioReader(source, sample_rate=self.sample_rate, channels=self.channels, seek=self.seek, output="torch") as reader:
                data = reader.read(start, start + self.seconds, pad=True).data
        except DecodeError:
            # The clip's frames were read: it is a video without audio.
            return {"audio": samples, "has_audio": False}
        assert isinstance(data, torch.Tensor)
        data = data[:, :count]
        samples[:, : data.shape[1]] = data
        return {"audio": samples, "has_audio": True}

    def read_all(self, sources: Sequence[Source], starts: Sequence[float]) -> List[ClipSound]:
        """The same for several clips, read at once."""
        if len(sources) < 2:
            return [self.read(source, start) for source, start in zip(sources, starts)]
        with ThreadPoolExecutor(min(len(sources), _THREADS)) as pool:
            return list(pool.map(self.read, sources, starts))
