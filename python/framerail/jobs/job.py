"""One job: runs a pipeline on one input, renames its outputs, records the result. Runs in a worker."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .. import _framerail
from ..errors import DecodeError, PipelineError, UnsupportedError
from ..pipeline import Pipeline
from ..remote import RemoteFile
from .folders import Folder
from .inputs import Input, pipeline_source
from .manifest import Manifest, entry_of, key_of, note, noted
from .report import JobRow
from .template import Template

#: Kinds of exceptions that are not the pipeline's.
_KINDS: Tuple[Tuple[type, str], ...] = (
    (FileNotFoundError, "input"), (DecodeError, "input"), (UnsupportedError, "input"), (FileExistsError, "output"),
    (MemoryError, "resource"), (OSError, "output"), (ValueError, "usage"),
)  # fmt: skip


class Task(NamedTuple):
    """The parameters of one job."""

    pipeline: str
    input: Input
    folder: Optional[Folder]
    device: Optional[str]
    threads: int
    #: Whether existing outputs may be replaced: all, or those that an earlier run wrote for this input.
    overwrite: bool
    owned: List[str]
    #: Options of fsspec's file system for the input.
    storage: Optional[Dict[str, Any]] = None
    #: Whether what another run finished meanwhile is left out.
    resume: bool = False

    def source(self) -> Any:
        """The input for readers."""
        return RemoteFile(self.input.path, **self.storage) if self.storage and "://" in self.input.path else self.input.path

    def row(self) -> JobRow:
        """The row of this job before it is done."""
        return JobRow(self.input.path, self.input.name, "failed", node=socket.gethostname(), process=os.getpid())


def run_task(task: Task) -> JobRow:
    """Runs a job. A failure is a row with the reason, not an exception."""
    began = time.monotonic()
    staging = None
    row = task.row()
    try:
        if task.resume and (kept := kept_row(task)) is not None:
            return kept
        _framerail.keep_models(True)
        template = Template(task.pipeline)
        if task.folder is not None:
            staging = task.folder.staging(key_of(task.input))
        address, sources = pipeline_source(task.input.path, task.storage)
        text = template.filled(path=address, name=task.input.name, out=staging or "", options=template.threads_options(task.threads))
        entry = entry_of(task.input, task.pipeline)
        pipeline = Pipeline(text, device=task.device, sources=sources)
        outcome = pipeline.run()
        row = row._replace(**measured(outcome), **fetched(pipeline, sources))
        if task.folder is not None and staging is not None:
            row = row._replace(outputs=tuple(commit(task, entry, staging)))
        row = row._replace(status="done")
    except Exception as error:  # noqa: BLE001 - a row of the report
        row = kept_row(task, error) or failed(row, error, staging)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return row._replace(wall_seconds=time.monotonic() - began)


def kept_row(task: Task, error: Optional[BaseException] = None) -> Optional[JobRow]:
    """The row of an input that another run, at work on the same folder, has finished meanwhile; None if none has.

    With the ``error`` of a job, only if that may be the reason: its output exists, or its pieces were joined and removed.
    """
    may_replace = task.owned and not task.resume
    if task.folder is None or may_replace or not isinstance(error, (FileExistsError, FileNotFoundError, type(None))):
        return None
    manifest = Manifest(task.folder)
    try:
        if found := noted(task.folder, task.input):
            manifest.entries[key_of(task.input)] = found
        elif error is not None:
            manifest.load()
        if not manifest.is_done(task.input, task.pipeline):
            return None
    except Exception:  # noqa: BLE001 - the job's own error is reported
        return None
    return task.row()._replace(status="kept", outputs=tuple(manifest.outputs(task.input)))


def failed(row: JobRow, error: BaseException, staging: Optional[str] = None) -> JobRow:
    """The row of a failed job."""
    words = str(error).strip() or type(error).__name__
    if isinstance(error, PipelineError):
        # The text, with a mark, follows in the next lines.
        kind, words = error.kind, re.sub(r"^error: (`[\w-]+`: )?", "", words.splitlines()[0])
    else:
        kind = next((kind for exception, kind in _KINDS if isinstance(error, exception)), "internal")
    words = " ".join(words.splitlines())
    if staging is not None:
        words = words.replace(staging + "/", "")
    # The row has the path beside it.
    return row._replace(status="failed", error=words.removeprefix(f"{row.path}: "), kind=kind)


def commit(task: Task, entry: Dict[str, Any], staging: str) -> List[str]:
    """Renames a job's outputs. A kill at any moment leaves each of them whole or absent."""
    folder = task.folder
    assert folder is not None
    found = []
    for parent, folders, names in os.walk(staging):
        folders.sort()
        found += [os.path.relpath(os.path.join(parent, name), staging) for name in sorted(names)]
    # A playlist appears after its segments.
    found.sort(key=lambda name: name.endswith(".m3u8"))
    may_replace = set(task.owned)
    taken = [name for name in found if not task.overwrite and name not in may_replace and folder.size(name) is not None]
    if taken:
        raise FileExistsError(f"{taken[0]} exists in {folder.url}; give overwrite=True, or another folder")
    outputs = [{"name": name, "bytes": os.path.getsize(os.path.join(staging, name))} for name in found]
    # Of an earlier pipeline; they may be replaced by one that has these names again.
    entry["earlier"] = sorted(may_replace.difference(found))
    note(folder, task.input, {**entry, "state": "committing", "outputs": outputs})
    for name in found:
        folder.put(os.path.join(staging, name), name, task.overwrite or name in may_replace)
    note(folder, task.input, {**entry, "state": "done", "outputs": outputs})
    return found


#: Counters of `read` for damaged input.
_DAMAGE = ("decode_errors", "frames_lost", "frames_repaired", "images_missing", "packets_corrupt", "packets_lost", "sources_ended_early")


def measured(outcome: Any) -> Dict[str, Any]:
    """What a run read: frames, seconds of video, and losses."""
    source = outcome["stages"][0]
    rate = re.search(r"([\d.]+) fps", outcome["edges"][0]["format"]) if outcome["edges"] else None
    seconds = source["frames_out"] / float(rate.group(1)) if rate and float(rate.group(1)) else 0.0
    damaged = sum(source["counters"].get(name, 0) for name in _DAMAGE)
    return {"frames": source["frames_out"], "damaged": damaged, "video_seconds": seconds}


def fetched(pipeline: Pipeline, sources: Dict[str, Any]) -> Dict[str, Any]:
    """What a run fetched from object storage."""
    stats = [*pipeline.remote_stats.values(), *(file.stats for file in sources.values() if isinstance(file, RemoteFile))]
    return {"requests": sum(one["requests"] for one in stats), "bytes_fetched": sum(one["bytes"] for one in stats)}
