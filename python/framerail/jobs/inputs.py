"""Inputs of jobs: video files in folders, patterns and buckets, each with a name and a mark that shows changes."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from ..remote import RemoteFile
from ..source import printable
from ..video_index import VIDEOS, videos_of

#: Bytes at both ends of a file that are hashed.
_END_BYTES = 1 << 16


class Input(NamedTuple):
    """A video that a job reads.

    Attributes
    ----------
    path : str
        An absolute path, or an address.
    name : str
        Name of the outputs: the path below the given folder, without its extension where that is unique. Bytes that are not UTF-8 are
        written as ``\\xff``.
    size : int
        Bytes; 0 where unknown.
    changed : str
        Time of the last change, or the storage's own mark of a version; empty where unknown.
    """

    path: str
    name: str
    size: int
    changed: str

    def ends(self) -> str:
        """A hash of the first and the last 64 KiB; for remote files the storage's own mark."""
        if "://" in self.path:
            return self.changed
        found = hashlib.blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            found.update(file.read(_END_BYTES))
            if self.size > _END_BYTES:
                file.seek(max(self.size - _END_BYTES, _END_BYTES))
                found.update(file.read(_END_BYTES))
        return found.hexdigest()


def pipeline_source(path: str, storage_options: Optional[Dict[str, Any]] = None) -> Tuple[str, Dict[str, Any]]:
    """The word for an input in a pipeline's text, and the pipeline's ``sources`` that belong to it."""
    if "://" in path:
        return path, {path: RemoteFile(path, **storage_options)} if storage_options else {}
    if (shown := printable(path)) == path:
        return path, {}
    return f"given:{shown}", {f"given:{shown}": open(path, "rb")}  # noqa: SIM115 - the pipeline's


def list_inputs(inputs: Union[str, "os.PathLike[str]", Iterable[Any]], storage_options: Optional[Dict[str, Any]] = None) -> List[Input]:
    """The videos that paths, folders (with those below), patterns and addresses name, in the order of their paths.

    Raises
    ------
    FileNotFoundError
        For what does not exist, and folders and patterns without videos.
    """
    given = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    found: List[Tuple[str, int, str]] = []
    for one in given:
        path = os.fspath(one)
        found += _remote(path, storage_options or {}) if "://" in path else _local(path)
    unique = list(dict.fromkeys(found))
    if not unique:
        raise FileNotFoundError("no inputs were given")
    names = _names([path for path, _, _ in unique], _base(given, [path for path, _, _ in unique]))
    return [Input(path, name, size, changed) for (path, size, changed), name in zip(unique, names)]


def _local(path: str) -> List[Tuple[str, int, str]]:
    if os.path.isdir(path):
        paths = videos_of(path)
        if not paths:
            raise FileNotFoundError(f"{path}: the folder contains no video; known extensions are {' '.join(sorted(VIDEOS))}")
    elif os.path.exists(path):
        paths = [path]
    else:
        paths = sorted(one for one in glob.glob(path, recursive=True) if os.path.isfile(one)) if glob.has_magic(path) else []
        if not paths:
            raise FileNotFoundError(f"{path}: no such file or folder, and no file matches")
    rows = []
    for one in paths:
        try:
            stat = os.stat(one)
            rows.append((os.path.abspath(one), stat.st_size, str(stat.st_mtime_ns)))
        except OSError:
            # A dangling link, or a file that was removed just now: its job fails, and the others run.
            rows.append((os.path.abspath(one), 0, ""))
    return rows


def _remote(address: str, options: Dict[str, Any]) -> List[Tuple[str, int, str]]:
    import fsspec

    system, path = fsspec.core.url_to_fs(address, **options)
    if not path and system.protocol != "memory":
        raise FileNotFoundError(f"{address}: names no bucket or folder")
    if glob.has_magic(path) and not system.exists(path):
        entries = list(system.glob(path, detail=True).values())
    elif system.isfile(path):
        entries = [system.info(path)]
    else:
        below = system.find(path, detail=True).values()
        entries = [entry for entry in below if os.path.splitext(entry["name"])[1].lower() in VIDEOS]
    files = sorted((entry for entry in entries if entry["type"] == "file"), key=lambda entry: str(entry["name"]))
    if not files:
        raise FileNotFoundError(f"{address}: no such file or folder, or no video in it")
    mark = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "last_modified", "mtime", "created")
    rows = []
    for entry in files:
        version = next((str(entry[key]) for key in mark if entry.get(key)), "")
        rows.append((system.unstrip_protocol(entry["name"]), int(entry.get("size") or 0), version))
    return rows


def _base(given: List[Any], paths: List[str]) -> str:
    """The base folder of names: the given one, or that of all files."""
    if len(given) == 1 and "://" not in os.fspath(given[0]) and os.path.isdir(given[0]):
        return os.path.join(os.path.abspath(given[0]), "")
    if len(paths) == 1:
        return paths[0][: paths[0].rfind("/") + 1]
    common = os.path.commonprefix(paths)
    return common[: common.rfind("/") + 1]


def _names(paths: List[str], base: str) -> List[str]:
    whole = [printable(path[len(base) :]) for path in paths]
    names = [os.path.splitext(name)[0] for name in whole]
    while True:
        # "a.mp4" may be a file's whole name, and that of a.mp4.mkv without its extension.
        counts = Counter(names)
        unique = [name if counts[name] == 1 else full for name, full in zip(names, whole)]
        if unique == names:
            return names
        names = unique
