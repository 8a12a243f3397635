"""Files on remote storage: fsspec's file system in memory stands for all."""

import pickle

import framerail as fr
import numpy as np
import pytest
from clips import numbers_of
from framerail import remote

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def stored(long_clip):
    """The clip in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/clips/long.mp4", long_clip.read_bytes())
    yield "memory://clips/long.mp4"
    memory.rm("/clips", recursive=True)


def test_an_address_of_fsspecs_is_read(stored):
    with fr.VideoReader(stored, layout="THWC", output="numpy") as reader:
        assert len(reader) == 600 and numbers_of(reader.read_frames([599, 3, 300]), "THWC") == [599, 3, 300]
    with pytest.raises(FileNotFoundError, match="memory://clips/none.mp4: no such file"):
        fr.VideoReader("memory://clips/none.mp4")
    with pytest.raises((fr.UnsupportedError, fr.DecodeError, OSError, ValueError)):
        fr.VideoReader("nosuchscheme://x/y.mp4")


def test_blocks_are_fetched_once_and_bounded(stored):
    file = fr.RemoteFile(stored, block_bytes=4096, keep_bytes=1 << 20)
    with fr.VideoReader(file, layout="THWC", output="numpy") as reader:
        reader.read_frames([500])
        few = file.requests
        assert few * 4096 < file.seek(0, 2), "less than the whole file"
        reader.read_frames([500])
        assert file.requests == few
        assert numbers_of(reader.read_frames([10]), "THWC") == [10]
    small = fr.RemoteFile(stored, block_bytes=4096, keep_bytes=8192)
    whole = small.read()
    assert small.requests == -(-len(whole) // 4096) and len(small._shared._kept) == 2
    small.seek(-10, 2)
    assert small.read(100) == whole[-10:] and small.read(1) == b""
    with pytest.raises(OSError, match="cannot seek to"):
        small.seek(-1)
    again = pickle.loads(pickle.dumps(small))
    assert again.read(8) == whole[:8]
    buffer = bytearray(16)
    again.seek(4)
    assert again.readinto(buffer) == 16 and bytes(buffer) == whole[4:20]


def test_bad_sizes_say_what_is_wrong(stored):
    with pytest.raises(ValueError, match="'block_bytes'"):
        fr.RemoteFile(stored, block_bytes=10)
    with pytest.raises(ValueError, match="'keep_bytes'"):
        fr.RemoteFile(stored, keep_bytes=10)


def test_a_file_that_is_shorter_than_stated(stored, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE_SECS", 0.0)
    file = fr.RemoteFile(stored, block_bytes=4096)
    file._shared.size += 10_000
    with pytest.raises(OSError, match="the storage returned .*tried 5 times"):
        file.read()


def test_requests_that_fail_for_a_while_are_tried_again(stored, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE_SECS", 0.0)
    file = fr.RemoteFile(stored, block_bytes=4096)
    fetch, wrong = file._shared._system.cat_file, [OSError("503 Slow Down"), TimeoutError(), b"cut"]

    def sometimes(*place, **ends):
        problem = wrong.pop() if wrong else None
        if isinstance(problem, Exception):
            raise problem
        return fetch(*place, **ends) if problem is None else problem

    monkeypatch.setattr(file._shared._system, "cat_file", sometimes)
    assert file.read(8)[4:8] == b"ftyp" and file.stats["retries"] == 3
    wrong += [PermissionError("ExpiredToken: the token has expired")]
    with pytest.raises(PermissionError, match="ExpiredToken"):
        fr.RemoteFile(stored).read(8)
    assert not wrong, "what does not pass is not tried again"


def test_reading_in_order_takes_few_requests_and_readers_share_blocks(stored):
    file = fr.RemoteFile(stored, block_bytes=4096)
    whole = file.read()
    assert file.requests < len(whole) / 4096 / 4 and file.stats["bytes"] == len(whole)
    other = file.reopened()
    assert other.read() == whole and other.requests == file.requests


def test_audio_and_frames_of_an_open_fsspec_file(stored):
    with fsspec.open(stored, "rb") as file, fr.VideoReader(file, layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames(np.array([7, 8])), "THWC") == [7, 8]
