"""Completes a written file: under its name, or copied to a file-like target."""

from __future__ import annotations

import json
import shutil
from typing import IO, Any, Dict, Optional, Protocol


class Unfinished(Protocol):
    """A compiled writer."""

    def finish(self) -> str: ...
    def abandon(self) -> Optional[str]: ...


def finished(compiled: Unfinished, folder: Optional[str], target: Optional[IO[bytes]]) -> Dict[str, Any]:
    """Completes the file and returns its report. A temporary file is copied to the target."""
    report: Dict[str, Any] = json.loads(compiled.finish())
    if folder is not None and target is not None:
        with open(report["path"], "rb") as made:
            shutil.copyfileobj(made, target, 1 << 20)
        report["path"] = None
    return report


def abandoned(compiled: Unfinished, folder: Optional[str]) -> Optional[str]:
    """Ends without completing the file. Returns the name of the file that keeps the playable part; None for a temporary one."""
    kept = compiled.abandon()
    return None if kept is None or folder is not None else str(kept)
