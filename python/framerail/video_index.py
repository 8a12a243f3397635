"""An index of a data set: one Parquet file with the properties of each video, so that files need not be scanned again."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Union

from . import _framerail
from .options import whole
from .progress import ProgressLine

if TYPE_CHECKING:
    from .types import IndexRow, IndexTable, Path

#: Extensions of indexed files in folders.
VIDEOS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .rm .ts .vob .webm .wmv .y4m".split()
)

#: The columns, and the kind of each.
COLUMNS: Dict[str, str] = {
    "path": "text",
    "size_bytes": "whole",
    "modified_nanos": "whole",
    "hash": "text",
    "container": "text",
    "codec": "text",
    "width": "whole",
    "height": "whole",
    "pixel_format": "text",
    "frame_rate": "real",
    "duration_seconds": "real",
    "frames": "whole",
    "keyframes": "lists",
    "packets": "bytes",
    "error": "text",
}


def videos_of(folder: Path) -> List[str]:
    """The videos in a folder and its subfolders, by their extensions, in the order of their paths."""
    found = []
    for parent, folders, names in os.walk(os.fspath(folder), onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(parent, name) for name in names if os.path.splitext(name)[1].lower() in VIDEOS and not name.startswith(".")]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def index_videos(
    sources: Union[Path, Iterable[Path]],
    out: Path,
    *,
    threads: int = 0,
    packets: bool = True,
    progress: bool = False,
) -> Dict[str, int]:
    """Writes the index of a data set. Unchanged files of an earlier index with this name are not opened again.

    Parameters
    ----------
    sources : path or iterable of paths
        A folder, which is searched with those below it, or files.
    out : path
        A Parquet file; one of that name is replaced once the new one is complete. Paths in it are relative to its folder for
        files below that.
    threads : int
        Files indexed at once; 0 = one per core.
    packets : bool
        Store the position of each frame's packet: a few bytes per frame, which saves a scan of containers without an index.
    progress : bool
        Draw a progress line on standard error.

    Returns
    -------
    dict
        Numbers of files "indexed", "kept" from the earlier index, and "failed"; the column "error" has the reasons.

    Raises
    ------
    OSError
        When a file or folder does not exist, or the index cannot be written.
    ValueError
        When no video is found, or none can be read.
    """
    out = os.fspath(out)
    is_folder = isinstance(sources, (str, os.PathLike))
    paths = videos_of(sources) if isinstance(sources, (str, os.PathLike)) else [os.fspath(path) for path in sources]
    if not paths:
        reason = f"{sources}: there are no videos; known extensions are {' '.join(sorted(VIDEOS))}"
        raise ValueError(reason if is_folder else "no sources were given")
    for path in paths:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: there is no such file or folder")
    home = os.path.dirname(os.path.abspath(out))
    earlier = {row["path"]: row for row in _rows(_earlier(out))}
    count = whole("threads", threads, 0) or os.cpu_count() or 1
    line = ProgressLine(sys.stderr) if progress else None
    rows, kept, failed = [], 0, 0
    with ThreadPoolExecutor(count) as pool:
        looked = pool.map(lambda path: _look(path, home, earlier, packets), paths)
        for row, is_kept in looked:
            rows.append(row)
            kept, failed = kept + is_kept, failed + (row["error"] is not None)
            if line is not None:
                line.show(f"{len(rows)}/{len(paths)} files" + (f", {failed} failed" if failed else ""))
    if line is not None:
        line.close()
    if failed == len(rows):
        raise ValueError(f"none of {len(rows)} files can be read, so no index is written: {rows[0]['error']}")
    _framerail.write_index(out, [(name, kind, [row.get(name) for row in rows]) for name, kind in COLUMNS.items()])
    return {"indexed": len(rows) - failed, "kept": kept, "failed": failed}


def _earlier(out: str) -> Dict[str, List[Any]]:
    try:
        table = _framerail.read_index(out)
    except (OSError, RuntimeError):
        return {}
    return table if COLUMNS.keys() <= table.keys() else {}


def _rows(table: Mapping[str, Any]) -> List[Any]:
    return [dict(zip(table, row)) for row in zip(*table.values())]


def printable(name: str) -> str:
    """A file's name with escapes for what is not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _look(path: str, home: str, earlier: Dict[str, Dict[str, Any]], packets: bool) -> Tuple[Dict[str, Any], bool]:
    """The row of a file, and whether it is that of the earlier index."""
    whole_path = os.path.abspath(path)
    below = whole_path.startswith(os.path.join(home, ""))
    name = os.path.relpath(whole_path, home) if below else whole_path
    if printable(name) != name:
        return {"path": printable(name), "error": "its name is not UTF-8; rename it"}, False
    known = earlier.get(name)
    try:
        found = os.stat(whole_path)
        is_same = known is not None and (known["size_bytes"], known["modified_nanos"]) == (found.st_size, found.st_mtime_ns)
        if known is not None and is_same and known["error"] is None and (not packets or known["packets"] is not None):
            return ({**known} if packets else {**known, "packets": None}), True
        row = _framerail.index_video(whole_path)
    except (OSError, RuntimeError, ValueError) as error:
        return {"path": name, "error": str(error)}, False
    return {**row, "packets": row["packets"] if packets else None, "path": name, "error": None}, False


def read_index(path: Path) -> IndexTable:
    """The columns of an index, and others of the same file: a list with one value per row for each.

    Raises
    ------
    FileNotFoundError, OSError
    DecodeError
        For files other than Parquet.
    ValueError
        For a table that lacks the columns of an index.
    """
    table = _framerail.read_index(os.fspath(path))
    lacking = [name for name in ("path", "size_bytes", "modified_nanos", "frames") if name not in table]
    if lacking:
        raise ValueError(f"{os.fspath(path)}: lacks the columns {', '.join(lacking)}; make it with `python -m framerail index`")
    rows = len(table["path"])
    made: Any = {**{name: [None] * rows for name in COLUMNS if name not in table}, **table}
    columns: IndexTable = made
    return columns


def command(arguments: argparse.Namespace) -> int:
    """``python -m framerail index``; returns the exit code."""
    try:
        counts = index_videos(
            arguments.sources[0] if len(arguments.sources) == 1 and os.path.isdir(arguments.sources[0]) else arguments.sources,
            arguments.out,
            threads=arguments.threads,
            packets=not arguments.no_packets,
            progress=True,
        )
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        print(f"framerail: error: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"framerail: error: {error}", file=sys.stderr)
        return 4
    table = read_index(arguments.out)
    wrong = [(path, error) for path, error in zip(table["path"], table["error"]) if error is not None]
    for path, reason in wrong[:10]:
        print(f"framerail: warning: {path} is left out: {reason}", file=sys.stderr)
    if len(wrong) > 10:
        print(f"framerail: warning: and {len(wrong) - 10} more; the column 'error' says why", file=sys.stderr)
    frames = sum(count or 0 for count in table["frames"])
    print(f"{arguments.out}: {counts['indexed']} videos, {frames} frames ({counts['kept']} unchanged, {counts['failed']} failed)")
    return 0


def add_command(commands: Any) -> None:
    """Adds ``index`` to the command line."""
    index = commands.add_parser("index", help="write the properties of each video of a data set into one Parquet file")
    index.add_argument("sources", nargs="+", metavar="DIR", help="a folder, searched with those below it, or files")
    index.add_argument("-o", "--out", required=True, metavar="FILE.parquet", help="the index; unchanged files of an earlier one are not opened again")
    index.add_argument("--threads", type=int, default=0, help="files read in parallel; 0 = one per CPU")
    index.add_argument(
        "--no-packets",
        action="store_true",
        help="leave out the position of each frame's packet: a smaller file, but slower opening of some containers",
    )


def dataset_parts(
    path: Path, labels: Union[None, str, Callable[[IndexRow], object]], where: Optional[Callable[[IndexRow], object]]
) -> Tuple[List[str], Optional[List[Any]], Optional[List[str]], Dict[str, List[Any]], List[Any]]:
    """Sources, labels, class names, further columns and stored frame indexes of the readable videos in an index."""
    table = read_index(path)
    home = os.path.dirname(os.path.abspath(os.fspath(path)))
    rows = [row for row in _rows(table) if row["error"] is None and (where is None or where(row))]
    if not rows:
        raise ValueError(f"{os.fspath(path)}: no readable video remains")
    sources = [os.path.join(home, row["path"]) for row in rows]
    classes: Optional[List[str]] = None
    given: Optional[List[Any]] = None
    if labels == "folder":
        names = [os.path.basename(os.path.dirname(source)) for source in sources]
        classes = sorted(set(names))
        number = {name: place for place, name in enumerate(classes)}
        given = [number[name] for name in names]
    elif isinstance(labels, str):
        if labels not in table:
            raise ValueError(f"option 'labels': the index has no column {labels!r}; there are {', '.join(table)}, and 'folder'")
        given = [row[labels] for row in rows]
    elif callable(labels):
        given = [labels(row) for row in rows]
    elif labels is not None:
        raise ValueError(f"option 'labels': {labels!r}; give 'folder', the name of a column, or a function of a row")
    further: Dict[str, List[Any]] = {name: [row[name] for row in rows] for name in table if name not in COLUMNS and name != labels}
    kept = [None if row["packets"] is None else (row["size_bytes"], row["modified_nanos"], row["packets"]) for row in rows]
    return sources, given, classes, further, kept
