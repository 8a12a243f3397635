"""The benchmark's cases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .adapter import MODES, SEEK, STREAM

#: Random picks are among these first frames, as in earlier measurements of the project.
PICKED_FROM = 900
#: Number of opens of random access in one run.
OPENS = 5
RESIZED = (640, 360)


@dataclass(frozen=True)
class Step:
    """One open of a clip, and the frames read from it."""

    path: str
    mode: str
    #: Frames by number; every frame if ``None``.
    numbers: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Case:
    """One kind of work: steps, and the counted unit."""

    name: str
    title: str
    steps: tuple[Step, ...]
    unit: str = "frames/s"
    #: Whether decoding every frame, as ``ffmpeg -f null`` does, is its limit.
    is_whole: bool = False


@dataclass(frozen=True)
class Clip:
    """A clip and its number of frames."""

    path: str
    frames: int


def random_picks(frames: int) -> Iterator[tuple[int, ...]]:
    """Ten numbers in order, for each call: the same for every reader."""
    generator = random.Random(1)
    population = range(min(frames, PICKED_FROM))
    for _ in range(OPENS):
        yield tuple(sorted(generator.sample(population, min(10, len(population)))))


def clip_picks(frames: int) -> Iterator[tuple[int, ...]]:
    """Ten of sixteen neighbouring frames, from anywhere in the clip."""
    generator = random.Random(1)
    for _ in range(OPENS):
        first = generator.randrange(max(1, min(frames, PICKED_FROM) - 16))
        window = range(first, min(first + 16, frames))
        yield tuple(sorted(generator.sample(window, min(10, len(window)))))


def all_cases(clip: Clip, files: list[str], mode: str | None = None) -> list[Case]:
    """All cases. ``mode`` forces one on all; by default sequences use "stream", picks "seek", a slice both."""

    def step(natural: str, numbers: tuple[int, ...] | None = None, size: tuple[int, int] | None = None) -> Step:
        return Step(clip.path, mode or natural, numbers, size)

    wanted = tuple(range(clip.frames)[10:200:20])
    return [
        Case("sequence", "every frame", (step(STREAM),), is_whole=True),
        Case("resized", f"every frame, {RESIZED[0]}×{RESIZED[1]}", (step(STREAM, size=RESIZED),), is_whole=True),
        *(
            Case(
                f"slice-{kind}", f"open, frames [10:200:20], {kind}", tuple(Step(clip.path, kind, wanted) for _ in range(OPENS))
            )
            for kind in MODES
            if mode in (None, kind)
        ),
        Case("random", "open, 10 random frames", tuple(step(SEEK, picks) for picks in random_picks(clip.frames))),
        Case("clip", "open, 10 of 16 neighbouring frames", tuple(step(SEEK, picks) for picks in clip_picks(clip.frames))),
        Case(
            "files",
            f"open, first frame, {len(files):,} clips of 320×240",
            tuple(Step(path, mode or SEEK, (0,)) for path in files),
            unit="opens/s",
        ),
    ]


NAMES = ("sequence", "resized", "slice-seek", "slice-stream", "random", "clip", "files")
