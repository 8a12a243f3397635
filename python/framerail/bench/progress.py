"""Shows the progress of the run on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A tqdm bar if that is installed, else a single line that is overwritten."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._bar: Any = None
        self._total = 0
        self._done = 0

    def expect(self, total: int) -> None:
        """Sets the number of steps from here on."""
        self._total, self._done = total, 0
        if not self._is_shown:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, leave=False, dynamic_ncols=True, file=sys.stderr)

    def step(self, text: str) -> None:
        """Begins a step."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_description_str(text)
            self._bar.update(1)
        elif self._is_shown:
            counted = f"{self._done}/{self._total} " if self._total else ""
            sys.stderr.write(f"\r\x1b[K{counted}{text}")
            sys.stderr.flush()

    def write(self, text: str) -> None:
        """Prints to standard output without disturbing the bar."""
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()
        elif self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        self.clear()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
