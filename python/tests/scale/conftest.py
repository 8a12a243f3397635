"""A Ray cluster of two nodes with one CPU each, for all tests of this folder; skipped where Ray is not installed."""

import importlib.util
import logging
import os
import shutil
import subprocess

import pytest
from clips import make_clip

if importlib.util.find_spec("ray") is None:
    # Everything here is `make test-scale`.
    collect_ignore_glob = ["test_*.py"]
else:
    import ray
    from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def cluster():
    """Two nodes of one CPU."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False})
    made.add_node(num_cpus=1, object_store_memory=200 << 20)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    logging.getLogger("ray.data").setLevel("ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder: three short clips, one in a folder below, and a damaged file."""
    place = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a.mp4", "b.mp4", "below/c.mp4")):
        (place / name).parent.mkdir(exist_ok=True)
        make_clip(place / name, frames=40, first=100 * number)
    (place / "damaged.mp4").write_bytes(b"no video" * 500)
    return place


@pytest.fixture(scope="session")
def good(videos, tmp_path_factory):
    """The same without the damaged file."""
    place = tmp_path_factory.mktemp("good") / "videos"
    shutil.copytree(videos, place)
    (place / "damaged.mp4").unlink()
    return place


@pytest.fixture(scope="session")
def long_video(tmp_path_factory):
    """600 frames in groups of 20, with audio."""
    place = tmp_path_factory.mktemp("long")
    make_clip(place / "plain.mp4", frames=600, gop=20)
    command = ["ffmpeg", "-v", "error", "-i", place / "plain.mp4", "-f", "lavfi", "-i", "sine=d=24", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([*command, place / "long.mp4"], check=True)
    return place / "long.mp4"
