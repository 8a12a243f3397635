"""The record of finished jobs: one small file for each finished input, beside the outputs, and one file of all after a run.

A run that is killed at any moment leaves finished inputs on record, and nothing else under the name of an output.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Optional

from .. import _framerail
from .folders import OWN, Folder
from .inputs import Input

_ALL = f"{OWN}/manifest.json"
_DONE = f"{OWN}/done"


def key_of(found: Input) -> str:
    """The key of an input in the manifest."""
    return hashlib.blake2b(found.name.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def entry_of(found: Input, pipeline: str) -> Dict[str, Any]:
    """Properties whose change makes the outputs stale."""
    return {
        "path": found.path, "name": found.name, "size": found.size, "changed": found.changed, "ends": found.ends(),
        "pipeline": pipeline, "version": _framerail.version(),
    }  # fmt: skip


class Manifest:
    """The record of finished inputs of a folder of outputs."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.entries: Dict[str, Dict[str, Any]] = {}

    def load(self) -> None:
        """Reads the records of earlier runs, and merges them into one file."""
        kept = _parsed(self._folder.read(_ALL)) or {}
        self.entries = dict(kept.get("inputs", {}))
        single = self._folder.list(_DONE)
        for name in single:
            entry = _parsed(self._folder.read(f"{_DONE}/{name}"))
            if entry is not None:
                self.entries[name.partition(".")[0]] = entry
        if single:
            self.gather(single)

    def gather(self, single: Optional[List[str]] = None) -> None:
        """Writes the merged file, then removes the small ones."""
        single = self._folder.list(_DONE) if single is None else single
        for name in single:
            entry = _parsed(self._folder.read(f"{_DONE}/{name}"))
            if entry is not None:
                self.entries[name.partition(".")[0]] = entry
        if single or self.entries:
            self._folder.write(_ALL, json.dumps({"format": 1, "inputs": self.entries}, indent=1).encode())
        for name in single:
            self._folder.remove(f"{_DONE}/{name}")

    def owned(self, found: Input) -> List[str]:
        """Outputs that an earlier run wrote for this input: they may be replaced."""
        entry = self.entries.get(key_of(found), {})
        return [output["name"] for output in entry.get("outputs", [])]

    def is_done(self, found: Input, pipeline: str) -> bool:
        """Whether this input, unchanged, was finished by this pipeline and version, and its outputs exist."""
        entry = self.entries.get(key_of(found))
        if entry is None or entry.get("state") != "done":
            return False
        cheap = {"name": found.name, "size": found.size, "changed": found.changed, "pipeline": pipeline, "version": _framerail.version()}
        if any(entry.get(name) != value for name, value in cheap.items()) or entry.get("ends") != found.ends():
            return False
        return all(self._folder.size(output["name"]) == output["bytes"] for output in entry["outputs"])


def note(folder: Folder, found: Input, entry: Dict[str, Any]) -> None:
    """Records an input: with the state "committing" before its outputs are renamed, then "done"."""
    folder.write(f"{_DONE}/{key_of(found)}.json", json.dumps(entry).encode())


def _parsed(data: Optional[bytes]) -> Optional[Dict[str, Any]]:
    if data is None:
        return None
    try:
        found: Dict[str, Any] = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
