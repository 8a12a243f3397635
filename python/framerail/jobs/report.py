"""The result of a run over many files: rows, sums, a page."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Tuple


class JobRow(NamedTuple):
    """The result for one input.

    Attributes
    ----------
    path, name : str
        The input.
    status : str
        "done", "failed", or "kept": an earlier run, or another one at the same time, had finished it.
    error, kind : str
        Why it failed, in one line, and the kind of failure: "input", "output", "usage", "model", "resource", "worker" or "internal".
    frames : int
        Frames that were read.
    video_seconds, wall_seconds : float
        Length of the video, and how long the job took.
    damaged : int
        Frames and packets of the input that were damaged or lost.
    outputs : list of str
        Files below the folder of outputs.
    pieces : int
        Pieces that it was divided into.
    requests, bytes_fetched : int
        What was fetched from object storage.
    node, process : str and int
        Where it ran last.
    """

    path: str
    name: str
    status: str
    error: str = ""
    kind: str = ""
    frames: int = 0
    video_seconds: float = 0.0
    wall_seconds: float = 0.0
    damaged: int = 0
    outputs: Tuple[str, ...] = ()
    pieces: int = 1
    requests: int = 0
    bytes_fetched: int = 0
    node: str = ""
    process: int = 0


@dataclass
class Report:
    """The result of a run over many files.

    Attributes
    ----------
    pipeline : str
    rows : list of JobRow
        One for each input, in the order of inputs.
    wall_seconds : float
        How long the run took.
    """

    pipeline: str
    rows: List[JobRow] = field(default_factory=list)
    wall_seconds: float = 0.0

    @property
    def failed(self) -> List[JobRow]:
        """Rows of inputs that failed."""
        return [row for row in self.rows if row.status == "failed"]

    def summary(self) -> Dict[str, Any]:
        """Sums: files, done, kept, failed, frames, hours of video, and how many times faster than real time they were done."""
        done = [row for row in self.rows if row.status == "done"]
        seconds = sum(row.video_seconds for row in done)
        return {
            "files": len(self.rows), "done": len(done), "kept": sum(row.status == "kept" for row in self.rows),
            "failed": len(self.failed), "frames": sum(row.frames for row in done), "hours": seconds / 3600,
            "wall_seconds": self.wall_seconds, "times_real_time": seconds / self.wall_seconds if self.wall_seconds else 0.0,
            "damaged": sum(row.damaged > 0 for row in done), "requests": sum(row.requests for row in done),
            "bytes_fetched": sum(row.bytes_fetched for row in done),
        }  # fmt: skip

    def __str__(self) -> str:
        found = self.summary()
        text = f"{found['files']} files: {found['done']} done"
        text += f", {found['kept']} done before" if found["kept"] else ""
        text += f", {found['failed']} failed" if found["failed"] else ""
        text += f", {found['damaged']} of them damaged" if found["damaged"] else ""
        if not found["done"]:
            return text
        hours = found["hours"]
        length = f"{hours:.2f} h" if hours >= 1 else f"{hours * 3600:.0f} s"
        return text + f"; {length} of video in {found['wall_seconds']:.0f} s, {found['times_real_time']:.1f} times real time"

    def json(self) -> str:
        """Everything as JSON."""
        rows = [row._asdict() for row in self.rows]
        return json.dumps({"pipeline": self.pipeline, "summary": self.summary(), "inputs": rows}, indent=1)

    def html(self) -> str:
        """A page: sums, failures first, then every input."""
        found = self.summary()
        order = {"failed": 0, "done": 1, "kept": 2}
        rows = sorted(self.rows, key=lambda row: order.get(row.status, 3))
        names = ("status", "name", "frames", "video s", "wall s", "damaged", "pieces", "outputs", "error")
        lines = []
        for row in rows:
            cells: List[Any] = [
                row.status, row.name, row.frames, f"{row.video_seconds:.1f}", f"{row.wall_seconds:.1f}", row.damaged, row.pieces,
                ", ".join(row.outputs), f"{row.kind}: {row.error}" if row.error else "",
            ]  # fmt: skip
            lines.append(f'<tr class="{row.status}">' + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
        sums = "".join(
            f"<div><b>{html.escape(value)}</b> {html.escape(name)}</div>"
            for name, value in (
                ("files", str(found["files"])), ("done", str(found["done"])), ("done before", str(found["kept"])),
                ("failed", str(found["failed"])), ("hours of video", f"{found['hours']:.2f}"),
                ("times real time", f"{found['times_real_time']:.1f}"), ("seconds", f"{found['wall_seconds']:.0f}"),
            )
        )  # fmt: skip
        head = "".join(f"<th>{name}</th>" for name in names)
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>framerail: report</title><style>'
            "body{font:14px system-ui,sans-serif;margin:2em;max-width:100em}div.sums{display:flex;gap:2em;margin:1em 0}"
            "b{font-size:1.5em}table{border-collapse:collapse}td,th{padding:.25em .75em;text-align:left;border-bottom:1px solid #ddd}"
            "tr.failed td{background:#fff0ee}code{background:#f4f4f4;padding:.2em}</style>"
            f"<h1>Report</h1><p><code>{html.escape(self.pipeline)}</code></p>"
            f'<div class="sums">{sums}</div><table><tr>{head}</tr>{"".join(lines)}</table></html>\n'
        )

    def write(self, path: str) -> None:
        """Writes the report: as JSON for names that end in ".json", else as a page."""
        text = self.json() if path.endswith(".json") else self.html()
        partial = f"{path}.partial"
        with open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(partial, path)
