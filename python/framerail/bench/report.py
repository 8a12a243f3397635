"""Results as a table and as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from .cases import Case
from .catalog import title
from .oddities import Oddity
from .runner import Result, Runner

OURS = "framerail"
LIMIT = "decode alone"


def best_peer(results: list[Result]) -> Result | None:
    """The fastest reader with correct frames other than framerail."""
    peers = [result for result in results if result.is_ranked and result.reader not in (OURS, LIMIT)]
    return max(peers, key=lambda result: result.median or 0.0, default=None)


def limit_of(results: list[Result]) -> float | None:
    """The speed of decoding alone in the same rounds."""
    return next((result.median for result in results if result.reader == LIMIT), None)


def ranked(results: list[Result]) -> list[Result]:
    """Fastest first; readers with wrong frames or errors after them, the limit last."""
    return sorted(results, key=lambda result: (result.reader == LIMIT, not result.is_ranked, -(result.median or 0.0)))


def ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value and base else ""


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def table(case: Case, results: list[Result], versions: dict[str, str]) -> str:
    """One case as a Markdown table."""
    rows = [("reader", case.unit, "minimum to maximum", "× best peer", "× decode alone", "frames")]
    peer, limit = best_peer(results), limit_of(results)
    for result in ranked(results):
        name = f"{title(result.reader)} {versions.get(result.reader, '')}".strip()
        median = result.median
        spread = f"{number(min(result.runs))} to {number(max(result.runs))}" if result.runs else ""
        words = result.error or result.verdict or "not checked"
        if result.is_partial:
            words += "; a part of it within the budget"
        against = ratio(median, peer.median if peer else None) if result.is_ranked and result.reader != LIMIT else ""
        rows.append((name, number(median) if median else "-", spread, against, ratio(median, limit), words))
    return f"{case.title}\n\n{_lines(rows)}"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first as its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def frames_table(outcomes: list[tuple[Oddity, list[Result]]], versions: dict[str, str]) -> str:
    """Odd clips by reader: correct, or what is wrong."""
    rows = [["clip", *(f"{title(reader)} {version}" for reader, version in versions.items())]]
    for oddity, results in outcomes:
        rows.append(
            [oddity.title, *(_frames_cell([result for result in results if result.reader == reader]) for reader in versions)]
        )
    return _lines(rows)


def _frames_cell(results: list[Result]) -> str:
    parts = []
    for result in results:
        way = result.case.rpartition("/")[2]
        if result.error is not None:
            parts.append(f"{way}: fails")
        elif result.verdict and "not rotated" in result.verdict:
            return "not rotated"
        elif not result.is_right:
            parts.append(f"{way}: {result.verdict.removeprefix('wrong frames: ').split(',')[0] if result.verdict else 'wrong'}")
    return "; ".join(parts) or "right"


def frames_document(outcomes: list[tuple[Oddity, list[Result]]], runner: Runner) -> dict[str, object]:
    """The verdicts, for JSON."""
    verdicts = [
        {"clip": oddity.title, "way": result.case.rpartition("/")[2], "reader": result.reader, "is_right": result.is_right}
        | {"verdict": result.verdict, "error": result.error, "wrong": result.wrong, "mean_difference": result.mean_difference}
        for oddity, results in outcomes
        for result in results
    ]
    return {"readers": runner.versions, "unavailable": runner.unavailable, "verdicts": verdicts}


def machine() -> dict[str, object]:
    """The machine."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def document(runner: Runner, clip: str, outcomes: list[tuple[Case, list[Result]]]) -> dict[str, object]:
    """Everything, for JSON."""
    cases = []
    for case, results in outcomes:
        peer, limit = best_peer(results), limit_of(results)
        for result in ranked(results):
            median = result.median
            # Rounding keeps files short; no value is known to five digits.
            entry: dict[str, object] = {**dataclasses.asdict(result), "runs": [round(run, 3) for run in result.runs]}
            entry["median"] = round(median, 3) if median else None
            entry["of_best_peer"] = (
                round(median / peer.median, 3) if median and peer and peer.median and result.is_ranked else None
            )
            entry["of_decode_alone"] = round(median / limit, 3) if median and limit else None
            cases.append(entry | {"title": case.title})
    return {
        "command": " ".join(["python -m framerail.bench", *sys.argv[1:]]),
        "machine": machine(),
        "clip": {"name": Path(clip).name, "frames": runner.clip_frames, "bytes": Path(clip).stat().st_size},
        "settings": dataclasses.asdict(runner.settings),
        "readers": runner.versions,
        "unavailable": runner.unavailable,
        "results": cases,
    }


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
