"""A progress line on the terminal."""

from __future__ import annotations

import time
from typing import TextIO

from .types import Outcome

_WIDTH = 24


class ProgressLine:
    """Drawn on a terminal only."""

    def __init__(self, to: TextIO):
        self._to = to
        self._is_terminal = to.isatty()
        self._began = time.monotonic()
        self._last = ""

    def update(self, stats: Outcome) -> None:
        done = max((stage["frames_in"] or stage["frames_out"] for stage in stats["stages"]), default=0)
        expected = sum(stage["counters"].get("frames_expected", 0) for stage in stats["stages"])
        elapsed = time.monotonic() - self._began
        rate = done / elapsed if elapsed > 0 else 0.0
        share = min(done / expected, 1.0) if expected else 0.0
        bar = "#" * int(share * _WIDTH) if expected else ""
        of = f"/{expected}" if expected else ""
        self.show(f"[{bar:<{_WIDTH}}] {done}{of} frames, {rate:.1f} frames/s")

    def show(self, line: str) -> None:
        self._last = line
        if self._is_terminal:
            self._to.write(f"\r\x1b[2K{self._last}")
            self._to.flush()

    def close(self) -> None:
        if self._last:
            self._to.write("\n" if self._is_terminal else f"{self._last}\n")
            self._to.flush()
