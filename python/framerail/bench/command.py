"""The command line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from framerail.standard_output import ArgumentParser, ends_as_unix_tools

from . import catalog, chart, footage, oddities, report
from .adapter import LAYOUTS, MODES
from .cases import NAMES, Case, all_cases
from .progress import Progress
from .runner import Result, Runner, Settings

DESCRIPTION = """Times every installed video reader on the same work, in rounds that alternate, and checks that each returns
the right frames: those that do not are marked and not ranked. Speeds are medians. Clips are read from the page cache."""

FRAMES = """Makes clips with B-frames, open GOPs, edit lists, variable rates and the like, reads every frame and single ones by
number with every installed reader, and compares them with ffmpeg's."""


def parser() -> argparse.ArgumentParser:
    top = ArgumentParser(prog="python -m framerail.bench")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    readers = commands.add_parser("readers", help="time video readers side by side", description=DESCRIPTION)
    readers.add_argument("clip", help="a video file; 1080p H.264 of half a minute is a good one")
    readers.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the returned frames (default cpu)")
    readers.add_argument("--readers", nargs="+", metavar="NAME", help="these only; file.py:Class is your own adapter")
    readers.add_argument("--cases", nargs="+", choices=NAMES, metavar="CASE", help=f"these only: {', '.join(NAMES)}")
    readers.add_argument("--mode", choices=MODES, help="one mode for every case (default: what suits the case)")
    readers.add_argument("--layout", choices=LAYOUTS, help="layout of frames (default THWC on the CPU, TCHW on CUDA)")
    readers.add_argument("--rounds", type=positive, default=3, help="timed runs of each (default 3)")
    readers.add_argument("--files", type=positive, default=1000, help="short clips to open (default 1000)")
    readers.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="longest timed run (default 60)")
    readers.add_argument("--no-check", action="store_true", help="leave out the check of frames")
    readers.add_argument("--json", type=Path, metavar="FILE", help="write every run")
    readers.add_argument("--svg", type=Path, metavar="FILE", help="draw a chart")
    frames = commands.add_parser("frames", help="check which readers return the right frames of unusual files", description=FRAMES)
    frames.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    frames.add_argument("--readers", nargs="+", metavar="NAME")
    frames.add_argument("--json", type=Path, metavar="FILE", help="write every verdict")
    return top


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


@ends_as_unix_tools
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    progress = Progress()
    if options.command == "frames":
        options.layout, options.rounds, options.budget, options.no_check = None, 0, 20.0, False
    settings = Settings(
        device=options.device,
        layout=options.layout or ("TCHW" if options.device == "cuda" else "THWC"),
        rounds=options.rounds,
        budget_secs=options.budget,
        is_checked=not options.no_check,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="framerail-bench-") as folder:
            runner = Runner(settings, Path(folder), progress.step)
            work = run if options.command == "readers" else run_frames
            return work(options, runner, Path(folder), progress)
    except footage.FootageError as error:
        progress.close()
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.close()
        print("bench: interrupted", file=sys.stderr)
        return 130


def run(options: argparse.Namespace, runner: Runner, folder: Path, progress: Progress) -> int:
    clip_path = str(Path(options.clip).resolve())
    if not Path(clip_path).is_file():
        raise footage.FootageError(f"{options.clip}: no such file")
    try:
        start(options, runner, progress)
        cases = prepared_cases(options, runner, folder, clip_path, progress)
        progress.expect(sum(runner.steps_of_run(case) for case in cases))
        outcomes = []
        for case in cases:
            results = runner.run(case)
            outcomes.append((case, results))
            progress.write(f"\n{report.table(case, results, runner.versions)}")
    finally:
        runner.close()
        progress.close()
    write_files(options, runner, clip_path, outcomes)
    return 0


def start(options: argparse.Namespace, runner: Runner, progress: Progress) -> None:
    readers = runner.start(options.readers or list(catalog.known(options.device)))
    for reader, reason in runner.unavailable.items():
        progress.write(f"not here: {catalog.title(reader)} ({reason})")
    if not readers:
        raise footage.FootageError("none of the readers can be used here")


def run_frames(options: argparse.Namespace, runner: Runner, folder: Path, progress: Progress) -> int:
    outcomes: list[tuple[oddities.Oddity, list[Result]]] = []
    try:
        start(options, runner, progress)
        progress.expect(len(oddities.ODDITIES) * (3 * len(runner.versions) + 1))
        for oddity in oddities.ODDITIES:
            path = oddities.make(oddity, folder)
            if path is None:
                progress.write(f"not made: {oddity.title} (this ffmpeg lacks its encoder)")
                continue
            results = [result for case in oddities.cases_of(oddity, runner.use_clip(path)) for result in runner.run(case)]
            outcomes.append((oddity, results))
    finally:
        runner.close()
        progress.close()
    print(report.frames_table(outcomes, runner.versions))
    if options.json:
        report.write_json(options.json, report.frames_document(outcomes, runner))
    return 0


def prepared_cases(options: argparse.Namespace, runner: Runner, folder: Path, clip_path: str, progress: Progress) -> list[Case]:
    clip = runner.use_clip(clip_path)
    wanted = options.cases or NAMES
    files: list[str] = []
    if "files" in wanted:
        progress.step("making short clips")
        files = footage.make_short_clips(folder, options.files)
        runner.use_short_clips(files)
    return [case for case in all_cases(clip, files, options.mode) if case.name in wanted]


def write_files(options: argparse.Namespace, runner: Runner, clip_path: str, outcomes: list[tuple[Case, list[Result]]]) -> None:
    if options.json:
        report.write_json(options.json, report.document(runner, clip_path, outcomes))
        print(f"\n{options.json}")
    if options.svg:
        machine = report.machine()
        note = f"{machine['cores']} cores of {machine['processor']}, {machine['date']}, medians of {options.rounds}"
        heading = f"Reading {Path(clip_path).name} on {'the CPU' if options.device == 'cpu' else 'CUDA'}"
        options.svg.write_text(chart.draw(outcomes, heading, note), encoding="utf-8")
        print(options.svg)
