"""The folder for outputs of jobs, on this machine or in object storage. A file appears under its name when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Any, ContextManager, Dict, List, Optional, Protocol, Tuple

#: The folder, beside the outputs, with the state that jobs share.
OWN = ".framerail"
#: The folder with a subfolder for each run in progress.
_WORK = f"{OWN}/work"
#: The file in it that is locked during the run, with the name of the machine.
_LOCK = "lock"
#: Age in seconds of a work folder of another machine whose lock is free, or missing, after which it is removed.
_ABANDONED_SECS = 86_400.0


class Folder(Protocol):
    """Operations of jobs on their output folder."""

    url: str

    def claimed(self) -> ContextManager[None]:
        """While a run uses the folder: fails if it cannot be written, and in the end removes what jobs of the run left behind.

        Leftovers of runs that were killed are removed too; those of other runs in progress are not.

        Raises
        ------
        OSError
        """
        ...

    def staging(self, key: str) -> str:
        """A new folder of this machine for a job's outputs."""
        ...

    def put(self, file: str, name: str, replaces: bool = True) -> None:
        """Moves a local file here atomically; an existing one is replaced, or raises ``FileExistsError``."""
        ...

    def get(self, name: str, file: str) -> str:
        """A local copy of a file here; ``file`` is a path for it."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file atomically."""
        ...

    def read(self, name: str) -> Optional[bytes]:
        """The content of a small file; None if it does not exist."""
        ...

    def size(self, name: str) -> Optional[int]:
        """Size of a file in bytes; None if it does not exist."""
        ...

    def sizes(self) -> Dict[str, int]:
        """Sizes of all files here and in subfolders, by their names."""
        ...

    def list(self, name: str) -> List[str]:
        """Names of the files in a subfolder."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with its content, if it exists."""
        ...


def folder(url: str, storage_options: Optional[Dict[str, Any]] = None) -> Folder:
    """The folder of a path or address."""
    return RemoteFolder(url, storage_options or {}) if "://" in url else LocalFolder(url)


class LocalFolder:
    """A folder on this machine, or one shared by all nodes."""

    def __init__(self, path: str) -> None:
        self.url = os.path.abspath(path)
        # Jobs of one run, on all nodes, have this in common.
        self._run = uuid.uuid4().hex[:8]

    def _at(self, name: str) -> str:
        return os.path.join(self.url, name)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        work = self._at(_WORK)
        own = os.path.join(work, self._run)
        try:
            os.makedirs(own, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.url}: outputs cannot be written there: {error.strerror}") from error
        with open(os.path.join(own, _LOCK), "w", encoding="utf-8") as lock:
            # Some shared file systems have no locks.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(socket.gethostname())
            lock.flush()
            for name in os.listdir(work):
                if name != self._run and _is_abandoned(os.path.join(work, name)):
                    shutil.rmtree(os.path.join(work, name), ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(own, ignore_errors=True)

    def staging(self, key: str) -> str:
        made = self._at(f"{_WORK}/{self._run}/{key}-{uuid.uuid4().hex[:8]}")
        os.makedirs(made)
        return made

    def put(self, file: str, name: str, replaces: bool = True) -> None:
        target = self._at(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not replaces:
            try:
                # Another run may have made a file of that name just now.
                os.link(file, target)
                os.unlink(file)
                return
            except FileExistsError:
                raise FileExistsError(f"{name} exists in {self.url}; give overwrite=True, or another folder") from None
            except OSError:
                # The file system has no hard links; the caller has checked that there is no such file.
                pass
        os.replace(file, target)

    def get(self, name: str, file: str) -> str:
        return self._at(name)

    def write(self, name: str, data: bytes) -> None:
        target = self._at(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            os.unlink(partial)
            raise

    def read(self, name: str) -> Optional[bytes]:
        try:
            with open(self._at(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def size(self, name: str) -> Optional[int]:
        try:
            return os.stat(self._at(name)).st_size
        except FileNotFoundError:
            return None

    def sizes(self) -> Dict[str, int]:
        found = {}
        for parent, folders, names in os.walk(self.url):
            folders[:] = [name for name in folders if name != OWN]
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):
                    found[os.path.relpath(path, self.url)] = os.stat(path).st_size
        return found

    def list(self, name: str) -> List[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._at(name)) if entry.is_file() and not entry.name.startswith("."))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        target = self._at(name)
        if os.path.isdir(target):
            shutil.rmtree(target, ignore_errors=True)
        elif os.path.exists(target):
            os.unlink(target)


class RemoteFolder:
    """A folder in object storage, by fsspec. Uploads in several parts appear when they are complete."""

    def __init__(self, url: str, options: Dict[str, Any]) -> None:
        try:
            import fsspec
        except ImportError:
            raise ImportError(f"{url}: writing there needs fsspec; pip install fsspec, and its package for this storage") from None
        self.url = url.rstrip("/")
        self._options = options
        found: Tuple[Any, str] = fsspec.core.url_to_fs(self.url, **options)
        self._system, self._path = found
        # Stores such as S3 show an object when its upload is complete; for others it is renamed at the end.
        self._shows_whole = bool({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss"} & set(_protocols(self._system)))

    def __reduce__(self) -> Tuple[Any, ...]:
        return RemoteFolder, (self.url, self._options)

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        try:
            self.write(f"{OWN}/started", str(int(time.time())).encode())
        except Exception as error:  # storages raise exceptions of many kinds
            raise OSError(f"{self.url}: outputs cannot be written there: {' '.join(str(error).split()) or type(error).__name__}") from error
        yield

    def staging(self, key: str) -> str:
        return tempfile.mkdtemp(prefix=f"framerail-{key}-")

    def put(self, file: str, name: str, replaces: bool = True) -> None:
        # Storages differ in how they refuse to replace: the caller has checked that there is no such file.
        target = self._at(name)
        if self._shows_whole:
            self._system.put_file(file, target)
        else:
            parent, _, last = target.rpartition("/")
            partial = f"{parent}/.partial-{uuid.uuid4().hex[:8]}-{last}"
            self._system.makedirs(parent, exist_ok=True)
            self._system.put_file(file, partial)
            self._system.mv(partial, target)
        os.unlink(file)

    def get(self, name: str, file: str) -> str:
        self._system.get_file(self._at(name), file)
        return file

    def write(self, name: str, data: bytes) -> None:
        target = self._at(name)
        if not self._shows_whole:
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(target, data)

    def read(self, name: str) -> Optional[bytes]:
        try:
            found: bytes = self._system.cat_file(self._at(name))
        except FileNotFoundError:
            return None
        return found

    def size(self, name: str) -> Optional[int]:
        try:
            self._system.invalidate_cache()
            return int(self._system.info(self._at(name))["size"])
        except FileNotFoundError:
            return None

    def sizes(self) -> Dict[str, int]:
        self._system.invalidate_cache()
        start = len(self._path.rstrip("/")) + 1
        try:
            found = self._system.find(self._path, detail=True)
        except FileNotFoundError:
            return {}
        return {name[start:]: int(entry["size"]) for name, entry in found.items()}

    def list(self, name: str) -> List[str]:
        try:
            self._system.invalidate_cache()
            found = self._system.ls(self._at(name), detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file")

    def remove(self, name: str) -> None:
        target = self._at(name)
        if self._system.exists(target):
            self._system.rm(target, recursive=True)


def _is_abandoned(work: str) -> bool:
    """Whether the run that a folder of work belongs to has ended: its lock is free. Locks may not reach other machines."""
    is_here = False
    try:
        with open(os.path.join(work, _LOCK), encoding="utf-8") as lock:
            is_here = lock.read() == socket.gethostname()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return is_here or time.time() - os.stat(work).st_mtime > _ABANDONED_SECS


def _protocols(system: Any) -> Tuple[str, ...]:
    found = system.protocol
    return (found,) if isinstance(found, str) else tuple(found)
