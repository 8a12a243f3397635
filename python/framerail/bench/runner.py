"""Runs cases: every reader is checked, then timed in alternating rounds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import footage
from .cases import Case, Clip, Step
from .process import Message, WorkerError, WorkerProcess


@dataclass
class Result:
    """The result of one reader in one case."""

    case: str
    reader: str
    unit: str
    #: Frames or opens per second, one value per run.
    runs: list[float] = field(default_factory=list)
    #: Whether the budget ended a run: its rate is that of the completed part.
    is_partial: bool = False
    error: str | None = None
    #: The result of the check; ``None`` without one.
    is_right: bool | None = None
    verdict: str | None = None
    wrong: list[list[int]] = field(default_factory=list)
    mean_difference: float | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.runs) if self.runs else None

    @property
    def is_ranked(self) -> bool:
        """Whether it has figures for frames that are correct, as far as checked."""
        return bool(self.runs) and self.error is None and self.is_right is not False


@dataclass(frozen=True)
class Settings:
    """Options of a run."""

    device: str = "cpu"
    layout: str = "THWC"
    rounds: int = 3
    #: A timed run ends after this time and counts as far as it got.
    budget_secs: float = 60.0
    is_checked: bool = True


class Runner:
    """Readers, each with its process."""

    def __init__(self, settings: Settings, folder: Path, progress: Callable[[str], None] = lambda text: None) -> None:
        self.settings = settings
        self.versions: dict[str, str] = {}
        self.modes: dict[str, list[str]] = {}
        self.unavailable: dict[str, str] = {}
        self._folder = folder
        self._progress = progress
        self._workers: dict[str, WorkerProcess] = {}
        self._references: dict[str, str] = {}
        self._size: tuple[int, int] | None = None
        self.clip_frames = 0

    def start(self, readers: list[str]) -> list[str]:
        """Starts readers; returns those that can be used here."""
        for reader in readers:
            self._progress(f"starting {reader}")
            try:
                worker = WorkerProcess(reader, self.settings.device, self.settings.layout)
            except WorkerError as error:
                self.unavailable[reader] = str(error)
                continue
            if "unavailable" in worker.greeting:
                self.unavailable[reader] = worker.greeting["unavailable"]
                worker.close()
                continue
            self._workers[reader] = worker
            self.versions[reader] = worker.greeting["version"]
            self.modes[reader] = worker.greeting["modes"]
        return list(self._workers)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()

    def use_clip(self, path: str) -> Clip:
        """Decodes the clip for reference, which counts its frames too."""
        self._progress("decoding the reference")
        signatures, size = footage.reference(path)
        self._keep(path, signatures)
        self._size = size
        self.clip_frames = len(signatures)
        return Clip(path, len(signatures))

    def use_short_clips(self, paths: list[str]) -> None:
        """Stores signatures of the short clips; all after the first few are copies of these in turn."""
        for number, path in enumerate(paths):
            if number < footage.DISTINCT:
                self._keep(path, footage.reference(path)[0])
            else:
                self._references[path] = self._references[paths[number % footage.DISTINCT]]

    def _keep(self, path: str, signatures: np.ndarray) -> None:
        file = self._folder / f"reference-{len(self._references)}.npy"
        np.save(file, signatures)
        self._references[path] = str(file)

    def run(self, case: Case) -> list[Result]:
        """One case with every reader that has its mode."""
        results = [Result(case.name, reader, case.unit) for reader in self._readers_of(case)]
        for result in results:
            self._progress(
                f"{case.name}: {result.reader}, check" if self.settings.is_checked else f"{case.name}: {result.reader}, warm-up"
            )
            self._check(case, result)
        has_limit = case.is_whole and self.settings.device == "cpu"
        limit = Result(case.name, "decode alone", case.unit, verdict="ffmpeg -f null")
        for number in range(self.settings.rounds):
            # The order rotates, so that no reader always follows the same one.
            turn = number % max(len(results), 1)
            for result in results[turn:] + results[:turn]:
                self._progress(f"{case.name}: {result.reader}, round {number + 1}")
                self._time(case, result)
            if has_limit:
                self._progress(f"{case.name}: decode alone, round {number + 1}")
                self._time_limit(case, limit)
        return [*results, limit] if limit.runs else results

    def steps_of_run(self, case: Case) -> int:
        """Number of progress steps in :meth:`run`."""
        has_limit = case.is_whole and self.settings.device == "cpu"
        return len(self._readers_of(case)) * (self.settings.rounds + 1) + has_limit * self.settings.rounds

    def _readers_of(self, case: Case) -> list[str]:
        """Readers that support the modes of a case; reading everything needs none."""
        modes = {step.mode for step in case.steps if step.numbers is not None}
        return [reader for reader in self._workers if modes <= set(self.modes[reader])]

    def _check(self, case: Case, result: Result) -> None:
        if not self.settings.is_checked:
            self._ask(case.steps[:1], result, {"do": "run", "budget_secs": 2.0})
            return
        # Of many files, as many as are different.
        steps = case.steps[: footage.DISTINCT] if case.unit == "opens/s" else case.steps
        own = self._size if case.unit != "opens/s" else None
        answer = self._ask(steps, result, {"do": "check", "references": self._references, "size": own})
        if answer:
            result.is_right, result.verdict = answer["is_right"], answer["words"]
            result.wrong, result.mean_difference = answer["wrong"], answer["mean_difference"]

    def _time(self, case: Case, result: Result) -> None:
        if result.error is not None:
            return
        answer = self._ask(case.steps, result, {"do": "run", "budget_secs": self.settings.budget_secs})
        if answer and answer["count"]:
            result.runs.append(answer["count"] / answer["seconds"])
            result.is_partial |= not answer["is_complete"]

    def _time_limit(self, case: Case, limit: Result) -> None:
        path = case.steps[0].path
        seconds = footage.decode_alone(path)
        if seconds:
            limit.runs.append(len(np.load(self._references[path], mmap_mode="r")) / seconds)

    def _ask(self, steps: Sequence[Step], result: Result, command: Message) -> Message | None:
        worker = self._workers[result.reader]
        try:
            if not worker.is_alive:
                worker = self._workers[result.reader] = WorkerProcess(result.reader, self.settings.device, self.settings.layout)
            asked = {**command, "steps": [dataclasses.asdict(step) for step in steps]}
            return worker.ask(asked, 3 * self.settings.budget_secs + 60)
        except WorkerError as error:
            result.error = str(error)
            return None
