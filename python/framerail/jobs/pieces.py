"""A long file in pieces: where it is divided, which neighbouring frames each piece needs, and how the pieces are joined.

The places depend on the file and the length of pieces alone, so the result is the same however many workers there are.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from .. import _framerail
from ..pipeline import Pipeline
from ..reader import VideoReader
from ..source import opened as source_of
from .folders import OWN
from .inputs import pipeline_source
from .job import Task, commit, failed, fetched, kept_row, measured, run_task
from .manifest import entry_of, key_of
from .report import JobRow
from .template import Stage, Template, quoted

#: Default length of a piece in seconds, and minimum length of files that are divided.
_SECONDS, _LEAST_SECONDS = 300.0, 600.0
#: Stages that process each frame independently.
_ALONE = frozenset(("infer", "blur", "draw", "crop", "regions", "tiles", "download", "upload", "torch"))
#: Options of `write` that joining does not support.
_AS_ONE = ("keep_start", "tags", "keep_tags", "pictures", "format", "format_options")
#: Why stages cannot run on pieces.
_WHOLE = {
    "track": "`track` numbers objects through the whole file",
    "zones": "`zones` counts entries and times through the whole file",
    "sample": "`sample` counts frames from the start of the file",
    "filter": "filters of FFmpeg may carry state from frame to frame",
    "transform": "`transform` may change the frame rate",
    "save": "records number frames from the start of the file",
    "report": "a report is about the whole file",
    "python": "functions may carry state from frame to frame",
    "tee": "it has branches",
}


class Piece(NamedTuple):
    """One piece: frames ``first`` to before ``last``, decoded from ``start`` to before ``end`` in seconds from the file's start."""

    number: int
    first: int
    last: int
    #: Frames that are decoded before the first.
    before: int
    start: Optional[float]
    end: Optional[float]


class Division(NamedTuple):
    """How a file is divided; without pieces it is not."""

    pieces: Tuple[Piece, ...]
    seconds: float = 0.0


def why_not(template: Template) -> Optional[str]:
    """Why a pipeline cannot run on pieces of a file; None if it can."""
    names = [stage.name for stage in template.stages]
    if any(stage.depth for stage in template.stages):
        return _WHOLE["tee"]
    if names[-1] != "write" or names.count("write") != 1:
        return "only the files of `write` at the end of a pipeline are joined"
    read, write = template.stages[0], template.stages[-1]
    given = next((name for name in ("start", "end", "duration", "streams", "realtime", "loop", "fps") if name in read.options), None)
    if given:
        return f"`read {given}=` already chooses a part of the file or its clock"
    kept = next((name for name in _AS_ONE if name in write.options), None)
    if kept:
        return f"`write {kept}=` is for files that are written as one"
    audio = write.options.get("audio", write.options.get("sound", "auto"))
    if audio not in ("auto", "yes", "no") or write.options.get("subtitles", "auto") not in ("auto", audio):
        return "audio and subtitles of joined files are copied together, or left out with audio=no"
    ending = os.path.splitext(write.arguments[0] if write.arguments else "")[1].lower()
    if ending not in (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".nut"):
        return f"pieces are joined as MP4, MOV, Matroska, WebM or NUT, not {ending or 'files without an extension'}"
    for stage in template.stages[1:-1]:
        if stage.name == "hold" and float(stage.options.get("start", 0)) > 0:
            return "`hold start=` continues tracks without a time limit"
        if stage.name != "hold" and stage.name not in _ALONE:
            return _WHOLE.get(stage.name, f"`{stage.name}` is not known to process each frame independently")
    return None


class Context(NamedTuple):
    """Frames that stages need around a piece."""

    before: int
    after: int
    #: The first decoded frame is a multiple of this: every Nth frame goes to a model.
    multiple: int


def context_of(stages: List[Stage], rate: float) -> Context:
    """The frames that the stages need around a piece."""
    every = math.lcm(*(int(stage.options.get("every", 1)) for stage in stages if stage.name in ("infer", "torch", "crop")), 1)
    reach = 0
    for stage in stages:
        if stage.name == "hold":
            frames = stage.options.get("frames")
            reach += int(frames) if frames is not None else math.ceil(_seconds(stage.options.get("time", "350ms")) * rate)
    if not reach:
        return Context(0, 0, every)
    # `hold` fills what is within reach of a sighting, by speeds and weak sightings within another reach. It links sightings by a speed
    # of which each new one makes half: sixteen leave nothing of what was before.
    return Context(2 * (2 * reach + 1) + 16 * every, 3 * reach + every + 1, every)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(ms|s|min|h)?", text.strip())
    if not found:
        parts = [float(part) for part in text.split(":")]
        return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))
    return float(found.group(1)) * {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}[found.group(2)]


def begin_task(task: Task, seconds: Optional[float]) -> Union[JobRow, Division]:
    """Runs a job; for a long file, returns how it is divided instead. None never divides, 0 selects the default length."""
    if seconds is not None:
        try:
            division = divide(task, seconds)
        except Exception:  # noqa: BLE001 - the job reports what is wrong with the file
            division = Division(())
        if division.pieces:
            return division
    return run_task(task)


def divide(task: Task, seconds: float) -> Division:
    """Divides a file at keyframes; 0 seconds selects the default length."""
    template = Template(task.pipeline)
    with VideoReader(task.source(), output="numpy") as reader:
        length = reader.header.duration_seconds or 0.0
        wanted = seconds or (_SECONDS if length >= _LEAST_SECONDS else 0.0)
        if not wanted or length < 1.5 * wanted:
            return Division(())
        times = reader.times
        at, keyframes = np.asarray(times.seconds, np.float64), np.flatnonzero(np.asarray(times.is_keyframe))
        rate = reader.header.average_fps or len(at) / max(length, 0.001)
    source, name = source_of(task.source())
    origin = _framerail.container_start(source, name)
    context = context_of(template.stages, rate)
    begin, cuts = at[0], {0}
    for part in range(1, max(round((at[-1] - begin) / wanted), 1)):
        cuts.add(int(keyframes[np.abs(at[keyframes] - (begin + part * wanted)).argmin()]))
    edges = [*sorted(cuts), len(at)]
    if len(edges) < 3:
        return Division(())
    pieces = []
    for number, (first, last) in enumerate(zip(edges, edges[1:])):
        from_frame = max(first - context.before, 0) // context.multiple * context.multiple
        to_frame = min(last + context.after, len(at))
        # Between two frames, so that rounding does not matter.
        start = None if from_frame == 0 else float((at[from_frame - 1] + at[from_frame]) / 2 - origin)
        end = None if to_frame == len(at) else float((at[to_frame - 1] + at[to_frame]) / 2 - origin)
        pieces.append(Piece(number, first, last, first - from_frame, start, end))
    return Division(tuple(pieces), float(length))


def _folder_of(task: Task) -> str:
    """Folder in which pieces wait for each other: one per input, with one per state of the file and pipeline."""
    about = json.dumps([task.pipeline, task.input.size, task.input.changed, _framerail.version()])
    return f"{OWN}/pieces/{key_of(task.input)}/{hashlib.blake2b(about.encode(), digest_size=6).hexdigest()}"


def _name_of(template: Template, piece: Piece) -> str:
    return f"{piece.number:05}-{piece.first}-{piece.last}{os.path.splitext(template.stages[-1].arguments[0])[1]}"


def piece_task(task: Task, piece: Piece) -> JobRow:
    """Runs the pipeline on a piece; the result of an earlier run is reused."""
    began = time.monotonic()
    row = task.row()
    template, folder = Template(task.pipeline), task.folder
    assert folder is not None
    target = f"{_folder_of(task)}/{_name_of(template, piece)}"
    staging = None
    try:
        if folder.size(target) is not None:
            return row._replace(status="done", outputs=(target,))
        staging = folder.staging(key_of(task.input))
        _framerail.keep_models(True)
        file = os.path.join(staging, os.path.basename(target))
        read: Dict[str, str] = {} if piece.start is None else {"start": f"{piece.start:.9f}s"}
        read.update({} if piece.end is None else {"end": f"{piece.end:.9f}s"})
        options = template.threads_options(task.threads)
        options["read"] = {**options.get("read", {}), **read}
        options["write"] = {**options.get("write", {}), "audio": "no", "keep_start": "yes"}
        address, sources = pipeline_source(task.input.path, task.storage)
        text = _written_to(template, file).filled(path=address, options=options)
        head, _, write = text.rpartition(" ! ")
        keep = f"sample every=1 start={piece.before} count={piece.last - piece.first}"
        pipeline = Pipeline(f"{head} ! {keep} ! {write}", device=task.device, sources=sources)
        outcome = pipeline.run()
        written = outcome["stages"][-1]["counters"]["frames_written"]
        if written != piece.last - piece.first:
            wanted = f"frames {piece.first} to {piece.last} were expected, but {written} were written"
            raise ValueError(f"{wanted}: the index does not match the file")
        folder.put(file, target)
        row = row._replace(status="done", outputs=(target,), **{**measured(outcome), **fetched(pipeline, sources), "frames": written})
    except Exception as error:  # noqa: BLE001 - a row of the report
        row = failed(row, error, staging)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return row._replace(wall_seconds=time.monotonic() - began)


def _written_to(template: Template, file: str) -> Template:
    """The same with another target, without the audio options."""
    write = template.stages[-1]
    kept = [f"{key}={quoted(value)}" for key, value in write.options.items() if key not in ("audio", "sound", "subtitles", "overwrite")]
    words = [word.raw for word in template.words[: write.place]]
    return Template(" ".join([*words, "write", quoted(file.replace("{", "{{")), *kept]))


def join_task(task: Task, division: Division, rows: List[JobRow]) -> JobRow:
    """Joins the pieces of a file and renames it."""
    began = time.monotonic()
    template, folder = Template(task.pipeline), task.folder
    assert folder is not None
    frames = sum(piece.last - piece.first for piece in division.pieces)
    row = task.row()._replace(pieces=len(rows), frames=frames, video_seconds=division.seconds)
    staging = fetched_to = None
    try:
        staging, fetched_to = folder.staging(key_of(task.input)), tempfile.mkdtemp(prefix="framerail-pieces-")
        pieces = [folder.get(one.outputs[0], os.path.join(fetched_to, os.path.basename(one.outputs[0]))) for one in rows]
        write = template.stages[-1]
        relative = write.arguments[0].replace("{out}/", "").replace("{name}", task.input.name)
        file = os.path.join(staging, relative)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        source, shown = source_of(task.source())
        with_audio = write.options.get("audio", write.options.get("sound", "auto")) != "no"
        joined = json.loads(_framerail.join_pieces(pieces, source, shown, file, with_audio, False))
        if joined["frames"] != frames:
            raise ValueError(f"the pieces have {joined['frames']} frames of {frames}")
        row = row._replace(outputs=tuple(commit(task, entry_of(task.input, task.pipeline), staging)))
        # With those of other states, which a run that was killed left behind.
        folder.remove(_folder_of(task).rpartition("/")[0])
        row = row._replace(
            status="done", damaged=sum(one.damaged for one in rows), requests=sum(one.requests for one in rows),
            bytes_fetched=sum(one.bytes_fetched for one in rows),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - a row of the report
        row = kept_row(task, error) or failed(row, error, staging)
    finally:
        for temporary in filter(None, (staging, fetched_to)):
            shutil.rmtree(temporary, ignore_errors=True)
    return row._replace(wall_seconds=time.monotonic() - began + sum(one.wall_seconds for one in rows))
