"""Clips with features that real files have and test files lack, to check which readers still return the correct frames."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cases import Case, Clip, Step
from .footage import FootageError

_SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30:duration=4")
_X264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast")


@dataclass(frozen=True)
class Oddity:
    """A clip: its file and ffmpeg's arguments, applied to a test pattern or to an earlier clip."""

    name: str
    title: str
    file: str
    arguments: tuple[str, ...]
    #: The clip that it is made from; none for the test pattern.
    base: str | None = None


ODDITIES = (
    Oddity("plain", "H.264 without B-frames, MP4", "plain.mp4", (*_X264, "-bf", "0", "-g", "30")),
    Oddity(
        "b-frames", "B-frames, closed GOPs, MP4", "b.mp4", (*_X264, "-bf", "3", "-g", "30", "-x264-params", "b-pyramid=normal")
    ),
    Oddity(
        "open-gop",
        "B-frames, open GOPs, MP4",
        "open.mp4",
        (*_X264, "-x264-params", "open-gop=1:bframes=3:keyint=30:min-keyint=30:scenecut=0"),
    ),
    Oddity(
        "hevc-open-gop",
        "HEVC, open GOPs, MP4",
        "hevc.mp4",
        (
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx265",
            "-preset",
            "veryfast",
            "-tag:v",
            "hvc1",
            "-x265-params",
            "open-gop=1:keyint=30:min-keyint=30:scenecut=0:log-level=none",
        ),
    ),
    Oddity("one-keyframe", "one keyframe in all", "one.mp4", (*_X264, "-bf", "2", "-g", "9999")),
    Oddity("edit-list", "cut by an edit list between keyframes", "edit.mp4", ("-c", "copy"), base="b.mp4"),
    Oddity(
        "vfr",
        "variable frame rate, MP4",
        "vfr.mp4",
        ("-vf", r"select=lt(n\,40)+not(mod(n\,4))", "-vsync", "vfr", *_X264, "-bf", "2", "-g", "30"),
    ),
    Oddity("vfr-mkv", "variable frame rate, Matroska", "vfr.mkv", ("-c", "copy"), base="vfr.mp4"),
    Oddity(
        "late-start", "starts at 10 s, transport stream", "late.ts", ("-c", "copy", "-output_ts_offset", "10"), base="b.mp4"
    ),
    Oddity("elementary", "H.264 without a container", "raw.h264", ("-c", "copy"), base="b.mp4"),
    Oddity(
        "vp9",
        "VP9 with hidden frames, WebM",
        "vp9.webm",
        (
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libvpx-vp9",
            "-b:v",
            "400k",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-auto-alt-ref",
            "1",
            "-lag-in-frames",
            "16",
            "-g",
            "30",
        ),
    ),
    Oddity(
        "mpeg4-avi",
        "MPEG-4 with B-frames, AVI",
        "mpeg4.avi",
        ("-pix_fmt", "yuv420p", "-c:v", "mpeg4", "-q:v", "3", "-bf", "2", "-g", "30"),
    ),
    Oddity(
        "ten-bit",
        "H.264 with 10 bit",
        "ten.mp4",
        ("-pix_fmt", "yuv420p10le", "-c:v", "libx264", "-preset", "veryfast", "-g", "30"),
    ),
    Oddity("rotated", "rotation tag of 90°", "rotated.mp4", ("-c", "copy", "-metadata:s:v:0", "rotate=90"), base="b.mp4"),
)


def make(oddity: Oddity, folder: Path) -> str | None:
    """The clip's path; ``None`` if this ffmpeg cannot make it."""
    path = folder / oddity.file
    source = (
        ["-ss", "0.7", "-i", str(folder / oddity.base)]
        if oddity.base and oddity.name == "edit-list"
        else ["-i", str(folder / (oddity.base or ""))]
    )
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *(source if oddity.base else _SOURCE), *oddity.arguments, str(path)]
    try:
        result = subprocess.run(command, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise FootageError("to make clips, ffmpeg must be installed") from None
    return str(path) if result.returncode == 0 else None


def cases_of(oddity: Oddity, clip: Clip) -> list[Case]:
    """Every frame, and some by number: near and far, first and last, by seeking and in a stream."""
    last = clip.frames - 1
    numbers = tuple(
        sorted({0, 1, 2, last // 4, last // 3, last // 2 - 1, last // 2, last // 2 + 2, last * 3 // 4, last - 1, last})
    )
    return [
        Case(f"{oddity.name}/all", oddity.title, (Step(clip.path, "stream"),)),
        # A separate open for each, so that no reader continues from the previous frame by chance.
        Case(f"{oddity.name}/seek", oddity.title, tuple(Step(clip.path, "seek", (number,)) for number in numbers)),
        Case(f"{oddity.name}/stream", oddity.title, (Step(clip.path, "stream", numbers),)),
    ]
