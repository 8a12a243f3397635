"""The record of finished jobs: one small file for each finished input, beside the outputs, and one file of all after a run.

A run that is killed at any moment leaves finished inputs on record, and nothing else under the name of an output. Several runs may share a
folder: files are merged into a new one before they are removed, and a reader that misses one begins again.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional

from .. import _framerail
from .folders import OWN, Folder
from .inputs import Input

#: Merged records are in files of this folder whose names begin so.
_MERGED = "manifest"
_DONE = f"{OWN}/done"
#: Attempts to read all files while other runs merge them.
_TRIES = 10
#: Requests to the folder side by side.
_REQUESTS = 16


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
        #: Files that the entries came from.
        self._files: List[str] = []

    def load(self) -> None:
        """Reads the records of earlier runs."""
        tries = 0
        while True:
            merged = [f"{OWN}/{name}" for name in self._folder.list(OWN) if name.startswith(_MERGED)]
            single = [f"{_DONE}/{name}" for name in self._folder.list(_DONE)]
            with ThreadPoolExecutor(_REQUESTS) as pool:
                contents = list(pool.map(self._folder.read, (*merged, *single)))
            tries += 1
            if None not in contents or tries == _TRIES:
                break
        self.entries, self._files = {}, []
        for name, content in zip((*merged, *single), contents):
            found = _parsed(content)
            if name in merged:
                self._files.append(name)
                for key, entry in found.get("inputs", {}).items():
                    if entry.get("noted", 0) >= self.entries.get(key, {}).get("noted", 0):
                        self.entries[key] = entry
            elif found:
                # Not merged yet, so it is the latest. A job of another run may still be at work on what is not done.
                self._files += [name] if found.get("state") == "done" else []
                self.entries[name.rpartition("/")[2].partition(".")[0]] = found

    def gather(self) -> None:
        """Merges the records of this run and of earlier ones into one file."""
        self.load()
        if len(self._files) < 2 and not any(name.startswith(_DONE) for name in self._files):
            return
        data = json.dumps({"format": 1, "inputs": self.entries}, indent=1).encode()
        self._folder.write(f"{OWN}/{_MERGED}-{uuid.uuid4().hex[:8]}.json", data)
        with ThreadPoolExecutor(_REQUESTS) as pool:
            list(pool.map(self._folder.remove, self._files))

    def outputs(self, found: Input) -> List[str]:
        """Outputs of this input."""
        return [output["name"] for output in self.entries.get(key_of(found), {}).get("outputs", [])]

    def owned(self, found: Input) -> List[str]:
        """All that earlier runs wrote for this input, with other pipelines too: they may be replaced."""
        earlier: List[str] = self.entries.get(key_of(found), {}).get("earlier", [])
        return self.outputs(found) + earlier

    def is_done(self, found: Input, pipeline: str, sizes: Optional[Dict[str, int]] = None) -> bool:
        """Whether this input, unchanged, was finished by this pipeline and version, and its outputs exist.

        ``sizes`` are those of all files of the folder, which need not be asked for one by one then.
        """
        entry = self.entries.get(key_of(found))
        if entry is None or entry.get("state") != "done":
            return False
        cheap = {"name": found.name, "size": found.size, "changed": found.changed, "pipeline": pipeline, "version": _framerail.version()}
        if any(entry.get(name) != value for name, value in cheap.items()) or entry.get("ends") != found.ends():
            return False
        size_of = self._folder.size if sizes is None else sizes.get
        return all(size_of(output["name"]) == output["bytes"] for output in entry["outputs"])


def note(folder: Folder, found: Input, entry: Dict[str, Any]) -> None:
    """Records an input: with the state "committing" before its outputs are renamed, then "done"."""
    folder.write(f"{_DONE}/{key_of(found)}.json", json.dumps({**entry, "noted": time.time()}).encode())


def noted(folder: Folder, found: Input) -> Dict[str, Any]:
    """The record of an input that is not merged yet; empty if there is none."""
    return _parsed(folder.read(f"{_DONE}/{key_of(found)}.json"))


def _parsed(data: Optional[bytes]) -> Dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
