"""Pipelines as Ray tasks: one for each file, or for each piece of a long one."""

# Where Ray is not installed, its decorators seem to give plain functions, and its data sets plain values.
# pyright: reportFunctionMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Deque, Dict, List, Optional, Union

import ray

from ..jobs.folders import Folder, folder
from ..jobs.inputs import Input, list_inputs
from ..jobs.job import Task, failed
from ..jobs.manifest import Manifest
from ..jobs.pieces import Division, Piece, begin_task, join_task, piece_task, why_not
from ..jobs.report import JobRow, Report
from ..jobs.template import Template
from ..options import bad, choice, whole
from ..progress import ProgressLine
from .rows import rows_of

_log = logging.getLogger("framerail.ray")

#: Tasks submitted to Ray at once, per CPU of the cluster.
_TASKS_PER_CPU = 4
#: Seconds between checks of the size of a cluster that may grow.
_LOOK_SECS = 5.0
#: Inputs that are compared with the record of an earlier run side by side.
_CHECKS = 16


def run(
    pipeline: str,
    inputs: Union[str, "os.PathLike[str]", Iterable[Any], "ray.data.Dataset"],
    *,
    out: Union[None, str, "os.PathLike[str]"] = None,
    resume: bool = False,
    overwrite: bool = False,
    errors: str = "report",
    report: Union[None, str, "os.PathLike[str]"] = None,
    split: Union[None, str, float] = "auto",
    device: Optional[str] = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    retries: int = 3,
    progress: bool = False,
    ray_remote_args: Optional[Dict[str, Any]] = None,
    storage_options: Optional[Dict[str, Any]] = None,
) -> Any:
    """Runs a pipeline on every input, on the workers of a Ray cluster.

    Parameters
    ----------
    pipeline : str
        A pipeline that begins with ``read {path}``. ``{path}`` is replaced by the input, ``{name}`` by its path below the given folder,
        without the extension, and ``{out}`` by ``out``. With ``{rows}`` as the target of `save`, the result is a data set of the records.
    inputs : path, address, iterable of them, or ray.data.Dataset
        Files, folders (with those below), patterns, addresses. A data set has the column "path", and perhaps "bytes" with whole files.
    out : path or address, optional
        Folder of the outputs; by default the one that the text names. All nodes must reach it. An output appears when it is complete.
    resume : bool
        Leave out inputs that an earlier run has finished: same size, modification time and content at both ends, same pipeline, same
        version, and the outputs are still there. Outputs of an earlier run are replaced where they are not up to date.
    overwrite : bool
        Replace outputs that other programs wrote.
    errors : str
        "report": each failure is a row of the report. "fail": the first failure ends the run.
    report : path, optional
        Write the report there: a page, or JSON for a name that ends in ".json".
    split : "auto", float or None
        Length in seconds of the pieces that long files are divided into: "auto" takes 300 s for files from 600 s on, where the
        pipeline can be run in pieces. None never divides. See ``docs/scale.md`` for what can be.
    device : str, optional
        As in ``Pipeline``.
    num_cpus, num_gpus : float
        Resources that Ray reserves for a task. The stages of a task use as many threads as it has CPUs, unless the text sets ``threads=``.
    retries : int
        How often Ray retries a task whose worker was lost.
    progress : bool
        Draw a progress line on standard error.
    ray_remote_args : dict, optional
        Further options of Ray's tasks, such as ``{"resources": {...}}``.
    storage_options : dict, optional
        Options of fsspec's file system, for inputs and ``out``.

    Returns
    -------
    Report, or ray.data.Dataset with ``{rows}``

    Raises
    ------
    ValueError, PipelineUsageError, FileNotFoundError
        For mistakes in the call, before anything starts.
    OSError
        When the folder of outputs, or that of the report, cannot be written, before anything starts.
    RuntimeError
        With ``errors="fail"``, when an input failed.

    Examples
    --------
    >>> import framerail.ray as fr_ray  # doctest: +SKIP
    >>> print(fr_ray.run("read {path} ! infer centerface ! hold ! blur ! write {out}/{name}.mp4", "in/", out="out/", resume=True))  # doctest: +SKIP
    """
    choice("errors", errors, ("report", "fail"))
    template = Template(pipeline).rooted()
    template.check(device)
    args = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": whole("retries", retries, 0), **(ray_remote_args or {})}
    threads = max(int(num_cpus), 1)
    if template.has_rows:
        return rows_of(template, inputs, device, threads, errors, storage_options, args)
    if isinstance(inputs, ray.data.Dataset):
        inputs = [row["path"] for row in inputs.select_columns(["path"]).iter_rows()]
    target = _target(template, out, storage_options)
    if resume and target is None:
        raise bad("resume", resume, "it with a pipeline that writes files: this one has no outputs to check")
    seconds = _piece_seconds(template, split, target)
    if report is not None:
        # Checked before hours of work.
        os.makedirs(os.path.dirname(os.path.abspath(report)), exist_ok=True)
    found = list_inputs(inputs, storage_options)
    if target is not None:
        # A folder of outputs may lie inside that of the inputs.
        kept = [one for one in found if not one.path.startswith(target.url.rstrip("/") + "/")]
        found = kept or found
    template.check_outputs(len(found))
    running = _Run(template.text, found, target, device, threads, overwrite, resume, storage_options, seconds, args, progress)
    made = running.through(errors == "fail")
    if report is not None:
        try:
            made.write(os.fspath(report))
        except OSError as error:
            # What the run returns is worth more.
            _log.error("the report cannot be written: %s", error)
    return made


def _target(template: Template, out: Union[None, str, "os.PathLike[str]"], storage_options: Optional[Dict[str, Any]]) -> Optional[Folder]:
    named = Template(template.text).outputs_folder()
    if named is None:
        return None
    if out is None:
        original: Optional[str] = getattr(template, "folder", None)
        if original is None:
            raise bad("out", out, "the folder that {out} stands for")
        return folder(original, storage_options)
    return folder(os.fspath(out), storage_options)


def _piece_seconds(template: Template, split: Union[None, str, float], target: Optional[Folder]) -> Optional[float]:
    """Seconds of pieces; None where files are not divided."""
    if split is None or split is False:
        return None
    reason = why_not(template)
    if split == "auto":
        return None if reason or target is None else 0.0
    if isinstance(split, str) or not split > 0:
        raise bad("split", split, "'auto', seconds above 0, or None")
    if reason:
        raise bad("split", split, f"None: {reason}")
    return float(split)


@ray.remote
def framerail_job(task: Task, seconds: Optional[float]) -> Union[JobRow, Division]:
    """A whole input, or how a long one is divided."""
    return begin_task(task, seconds)


@ray.remote
def framerail_piece(task: Task, piece: Piece) -> JobRow:
    """One piece of an input."""
    return piece_task(task, piece)


@ray.remote
def framerail_join(task: Task, division: Division, rows: List[JobRow]) -> JobRow:
    """All pieces of an input as one file."""
    return join_task(task, division, rows)


class _Run:
    """A run in progress."""

    def __init__(
        self, text: str, inputs: List[Input], target: Optional[Folder], device: Optional[str], threads: int, overwrite: bool, resume: bool,
        storage: Optional[Dict[str, Any]], seconds: Optional[float], args: Dict[str, Any], progress: bool,
    ) -> None:  # fmt: skip
        self._text, self._inputs, self._target, self._device = text, inputs, target, device
        self._threads, self._overwrite, self._resume = threads, overwrite, resume
        self._storage, self._seconds, self._args = storage, seconds, args
        self._manifest = None if target is None else Manifest(target)
        self._rows: Dict[str, JobRow] = {}
        self._counts: Counter[str] = Counter()
        self._video_seconds = 0.0
        # Pending submissions: functions that return a reference, and the handler of its result.
        self._due: Deque[Callable[[], None]] = deque()
        self._under_way: Dict[Any, Callable[[Any], None]] = {}
        self._line = ProgressLine(sys.stderr) if progress else None
        self._began = time.monotonic()
        self._room, self._looked = 0, -_LOOK_SECS
        self._failure: Optional[JobRow] = None

    def through(self, fails: bool) -> Report:
        """Runs all jobs."""
        with contextlib.nullcontext() if self._target is None else self._target.claimed():
            if not ray.is_initialized():
                ray.init(log_to_driver=False)
            try:
                # Longest first, so that no long task is left for the end.
                inputs = sorted(self._inputs, key=lambda one: -one.size)
                for found, is_done in zip(inputs, self._done_before(inputs)):
                    if is_done and self._manifest is not None:
                        self._finish(JobRow(found.path, found.name, "kept", outputs=tuple(self._manifest.outputs(found))))
                    else:
                        self._due.append(lambda found=found: self._begin(found))  # type: ignore[misc]
                self._work(fails)
            finally:
                for reference in self._under_way:
                    ray.cancel(reference, force=True)
                if self._line is not None:
                    self._line.close()
                if self._manifest is not None:
                    try:
                        self._manifest.gather()
                    except OSError as error:
                        # The records of single inputs are complete.
                        _log.warning("the records of finished inputs are not merged: %s", error)
        if fails and self._failure is not None:
            raise RuntimeError(f"{self._failure.path}: {self._failure.error}")
        return Report(self._text, [self._rows[found.name] for found in self._inputs], time.monotonic() - self._began)

    def _work(self, fails: bool) -> None:
        while self._due or self._under_way:
            if fails and self._failure is not None:
                return
            while self._due and len(self._under_way) < self._most():
                self._due.popleft()()
            if not self._under_way:
                continue
            ready, _ = ray.wait(list(self._under_way), num_returns=1, timeout=_LOOK_SECS)
            for reference in ready:
                done = self._under_way.pop(reference)
                try:
                    result = ray.get(reference)
                except Exception as error:  # noqa: BLE001 - Ray's, or what kept a task from running
                    result = error
                done(result)

    def _most(self) -> int:
        """Number of tasks submitted to Ray: enough to keep a cluster busy and to let it grow."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECS:
            self._looked = now
            self._room = max(int(ray.cluster_resources().get("CPU", 1) * _TASKS_PER_CPU), 16)
        return self._room

    def _done_before(self, inputs: List[Input]) -> List[bool]:
        """Whether an earlier run has finished each input."""
        manifest, target = self._manifest, self._target
        if manifest is None or target is None:
            return [False] * len(inputs)
        manifest.load()
        if not self._resume or not manifest.entries:
            return [False] * len(inputs)
        sizes = target.sizes()
        with ThreadPoolExecutor(_CHECKS) as pool:
            return list(pool.map(lambda found: manifest.is_done(found, self._text, sizes), inputs))

    def _begin(self, found: Input) -> None:
        owned = [] if self._manifest is None else self._manifest.owned(found)
        task = Task(self._text, found, self._target, self._device, self._threads, self._overwrite, owned, self._storage, self._resume)
        reference = framerail_job.options(**self._args).remote(task, self._seconds)

        def came(result: Any) -> None:
            if isinstance(result, Division):
                self._divided(task, result)
            else:
                self._finish(_row_of(task, result))

        self._under_way[reference] = came

    def _divided(self, task: Task, division: Division) -> None:
        rows: List[Optional[JobRow]] = [None] * len(division.pieces)

        def submit(piece: Piece) -> None:
            reference = framerail_piece.options(**self._args).remote(task, piece)
            self._under_way[reference] = lambda row: came(piece, _row_of(task, row))

        def came(piece: Piece, row: JobRow) -> None:
            rows[piece.number] = row
            if all(rows):
                wrong = next((one for one in rows if one is not None and one.status == "failed"), None)
                if wrong is not None:
                    self._finish(wrong)
                    return
                reference = framerail_join.options(**{**self._args, "num_gpus": 0}).remote(task, division, rows)
                self._under_way[reference] = lambda joined: self._finish(_row_of(task, joined))

        for piece in reversed(division.pieces):
            self._due.appendleft(lambda piece=piece: submit(piece))  # type: ignore[misc]

    def _finish(self, row: JobRow) -> None:
        self._rows[row.name] = row
        self._counts[row.status] += 1
        self._video_seconds += row.video_seconds
        if row.status == "failed" and self._failure is None:
            self._failure = row
        if self._line is not None:
            words = f"{len(self._rows)}/{len(self._inputs)} files, {self._video_seconds / 3600:.2f} h of video"
            words += f", {self._counts['kept']} done before" if self._counts["kept"] else ""
            self._line.show(words + (f", {self._counts['failed']} failed" if self._counts["failed"] else ""))


def _row_of(task: Task, result: Any) -> JobRow:
    """The row of a task; also for one that Ray gave up."""
    if isinstance(result, JobRow):
        return result
    row = failed(JobRow(task.input.path, task.input.name, "failed"), result)
    lines = [line.strip() for line in str(result).splitlines() if line.strip()]
    words = lines[0] if lines else type(result).__name__
    return row._replace(error=f"the worker was lost repeatedly: {words}", kind="worker")
