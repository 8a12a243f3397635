"""Object storage: an S3 server on loopback with faults injected."""

import importlib.util
import json
import os
import subprocess
import sys

import framerail as fr
import framerail.ray as fr_ray
import pytest
from clips import make_clip, numbers_of

pytest.importorskip("moto.server", reason="NOT TESTED: moto is not installed (make test-scale)")
fsspec = pytest.importorskip("fsspec")

from storage import served  # noqa: E402


@pytest.fixture(scope="module")
def store():
    server, proxy, options = served()
    yield proxy, options
    proxy.shutdown()
    server.stop()


@pytest.fixture(scope="module")
def stored(store, tmp_path_factory):
    """A clip of 40 s with large groups of pictures, about 4 MB."""
    proxy, options = store
    clip = make_clip(tmp_path_factory.mktemp("s3") / "long.mp4", frames=1000, gop=50, options=("-b:v", "0"))
    fsspec.filesystem("s3", **options).put_file(str(clip), "bucket/in/long.mp4")
    return clip


@pytest.fixture(autouse=True)
def calm(store):
    proxy, _ = store
    proxy.latency_secs, proxy.faults, proxy.requests, proxy.bytes = 0.0, [], 0, 0
    yield
    proxy.latency_secs, proxy.faults = 0.0, []


def test_few_requests_read_few_frames(store, stored):
    proxy, options = store
    file = fr.RemoteFile("s3://bucket/in/long.mp4", block_bytes=1 << 14, **options)
    with fr.VideoReader(file, layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([700, 3]), "THWC") == [700, 3]
    stats = file.stats
    # Closing the reader ends a read-ahead that is under way: it may not have reached the server, or part of it was sent and not counted.
    assert abs(stats["requests"] - proxy.requests) <= 1 and abs(stats["bytes"] - proxy.bytes) <= 2 << 14, "what is counted was fetched"
    assert stats["size_bytes"] == os.path.getsize(stored) and stats["bytes"] < 0.6 * stats["size_bytes"] and stats["retries"] == 0


def test_what_passes_is_tried_again(store, stored, monkeypatch):
    proxy, options = store
    monkeypatch.setattr("framerail.remote._PAUSE_SECS", 0.0)
    file = fr.RemoteFile("s3://bucket/in/long.mp4", **options)
    proxy.faults = ["cut", "503", "cut"]
    with fr.VideoReader(file, layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([999]), "THWC") == [999]
    assert not proxy.faults


def test_a_slow_server_is_waited_for(store, stored):
    proxy, options = store
    proxy.latency_secs = 0.05
    with fr.VideoReader(fr.RemoteFile("s3://bucket/in/long.mp4", **options), layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([500]), "THWC") == [500]


def test_expired_credentials_and_missing_files_are_reported_at_once(store, stored):
    proxy, options = store
    file = fr.RemoteFile("s3://bucket/in/long.mp4", **options)
    proxy.faults = ["expired"] * 50
    with pytest.raises(Exception, match="(?i)expired"):
        fr.VideoReader(file)
    assert len(proxy.faults) > 40
    proxy.faults = []
    with pytest.raises(FileNotFoundError, match="none.mp4"):
        fr.RemoteFile("s3://bucket/none.mp4", **options)


def test_jobs_read_and_write_buckets(cluster, store, stored, tmp_path):
    proxy, options = store
    fsspec.filesystem("s3", **options).pipe_file("bucket/in/damaged.mp4", b"no video" * 99)
    text = "read {path} ! write {out}/{name}.mp4 preset=ultrafast"
    report = fr_ray.run(text, "s3://bucket/in/", out="s3://bucket/out", storage_options=options, split=15)
    assert [(row.name, row.status) for row in report.rows] == [("damaged", "failed"), ("long", "done")], report.failed
    done = report.rows[1]
    assert done.frames == 1000 and done.pieces == 3 and done.requests and done.bytes_fetched
    system = fsspec.filesystem("s3", **options)
    system.invalidate_cache()
    assert [entry.rpartition("/")[2] for entry in system.ls("bucket/out") if not entry.endswith(".framerail")] == ["long.mp4"]
    with fr.VideoReader(fr.RemoteFile("s3://bucket/out/long.mp4", **options), layout="THWC", output="numpy") as reader:
        assert len(reader) == 1000 and numbers_of(reader.read_frames([0, 999]), "THWC") == [0, 999]
    again = fr_ray.run(text, "s3://bucket/in/", out="s3://bucket/out", storage_options=options, split=15, resume=True)
    assert [row.status for row in again.rows] == ["failed", "kept"]


def test_clips_come_from_buckets(cluster, store, stored):
    _, options = store
    data = fr_ray.read_clips("s3://bucket/in/long*.mp4", frames_per_clip=10, step=100, size=(48, 64), storage_options=options)
    assert sorted(row["clip"] for row in data.select_columns(["clip"]).take_all()) == list(range(10))


@pytest.fixture
def native(store, monkeypatch):
    """The environment in which framerail itself, without fsspec, reaches the server."""
    proxy, _ = store
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "s3fs" else found(name, *more))
    for name, value in {"ENDPOINT_URL": proxy.url, "ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def google(store, monkeypatch):
    """The XML interface of Google Cloud Storage, which is that of S3 but for credentials."""
    proxy, _ = store
    monkeypatch.setenv("GOOGLE_BASE_URL", proxy.url)
    account = {"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))


def program(*arguments):
    return subprocess.run([sys.executable, "-m", "framerail", "run", "-q", *map(str, arguments)], capture_output=True, text=True)


def test_the_program_reads_and_writes_buckets(store, stored, native, tmp_path):
    proxy, options = store
    proxy.faults = ["cut", "503"]
    # An output of several parts.
    text = "read s3://bucket/in/long.mp4 ! tee ( write 's3://bucket/native/a b%.mkv' ) ! write s3://bucket/native/{name}.nut codec=rawvideo"
    done = program(text, "--stats", tmp_path / "stats.json")
    assert done.returncode == 0 and not proxy.faults, done.stderr
    counters = json.loads((tmp_path / "stats.json").read_text())["stages"][0]["counters"]
    assert counters["requests_repeated"] >= 2 and counters["bytes_fetched"] >= os.path.getsize(stored)
    system = fsspec.filesystem("s3", **options)
    system.invalidate_cache()
    sizes = {entry["name"].rpartition("/")[2]: entry["size"] for entry in system.ls("bucket/native", detail=True)}
    assert set(sizes) == {"a b%.mkv", "long.nut"} and sizes["long.nut"] > 10 << 20
    assert program(text).returncode == 4
    proxy.faults = ["expired"] * 50
    refused = program("read s3://bucket/in/long.mp4 ! null")
    assert refused.returncode == 3 and "The provided token has expired" in refused.stderr and len(proxy.faults) == 49


def test_readers_and_pipelines_need_no_fsspec(store, stored, native):
    proxy, _ = store
    with fr.VideoReader("s3://bucket/in/long.mp4", layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([700, 3]), "THWC") == [700, 3]
    assert 0 < proxy.requests < 10
    assert fr.Pipeline("read s3://bucket/in/long.mp4 duration=1 ! write s3://bucket/native/part.mp4 preset=ultrafast").run()
    with fr.VideoReader("s3://bucket/native/part.mp4", output="numpy") as reader:
        assert len(reader) == 25
    with pytest.raises(FileNotFoundError):
        fr.VideoReader("s3://bucket/in/none.mp4")


def test_the_program_reads_and_writes_google_buckets(store, stored, google, tmp_path):
    proxy, _ = store
    # The second output has several parts.
    text = "read gs://bucket/in/long.mp4 duration=16 ! tee ( write gs://bucket/google/a.mkv ) ! write gs://bucket/google/{name}.nut codec=rawvideo"
    proxy.faults = ["cut", "503"]
    done = program(text, "--stats", tmp_path / "stats.json")
    assert done.returncode == 0 and not proxy.faults, done.stderr
    assert json.loads((tmp_path / "stats.json").read_text())["stages"][0]["counters"]["requests_repeated"] >= 2
    refused = program(text)
    assert refused.returncode == 4 and "gs://bucket/google/" in refused.stderr and "exists" in refused.stderr
    assert program("read gs://bucket/google/ ! null", "--stats", tmp_path / "listed.json").returncode == 0
    assert json.loads((tmp_path / "listed.json").read_text())["stages"][0]["frames_out"] == 800
    proxy.latency_secs = 0.05
    with fr.VideoReader("gs://bucket/in/long.mp4", layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([700, 3]), "THWC") == [700, 3]
    missing = program("read gs://bucket/none.mp4 ! null")
    assert missing.returncode == 3 and "gs://bucket/none.mp4" in missing.stderr and missing.stderr.count("error") == 1


def test_files_of_a_hub_are_read_with_its_token_only(store, stored, monkeypatch):
    """The hub answers with an address of another host, which gets no token."""
    proxy, _ = store
    monkeypatch.setenv("HF_ENDPOINT", proxy.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    proxy.files["/elsewhere/long.mp4"] = str(stored)
    proxy.redirects["/datasets/me/clips/resolve/main/a%20b/long.mp4"] = proxy.url.replace("127.0.0.1", "localhost") + "/elsewhere/long.mp4?signed"
    proxy.faults = ["503", "cut", "503"]
    with fr.VideoReader("hf://datasets/me/clips/a b/long.mp4", layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames([700, 3]), "THWC") == [700, 3]
    assert not proxy.faults and not proxy.tokens
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused = program("read 'hf://datasets/me/clips/a b/long.mp4' ! null")
    assert refused.returncode == 3 and "HF_TOKEN" in refused.stderr and "hf_other" not in refused.stderr, refused.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    missing = program("read hf://datasets/me/clips/none.mp4 ! null")
    assert missing.returncode == 3 and "none.mp4" in missing.stderr, missing.stderr
