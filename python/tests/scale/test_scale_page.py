"""Every command and every block of Python in docs/scale.md is run; buckets are those of a server on loopback."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moto.server", reason="NOT TESTED: moto is not installed (make test-scale)")

from clips import make_clip  # noqa: E402
from storage import served  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs/scale.md"
#: What the page has, and this machine has not: GPUs, models that are not among those of the tests, other storages, cameras, a long video.
REPLACED = {
    "num_gpus=1": "num_gpus=0", "infer ssd300 batch=32 precision=fp16": "infer centerface size=128x96", "max_size=8": "max_size=1",
    "gs://other": "s3://bucket", "az://container": "s3://bucket", "anon=True": "anon=False", "70_000": "30",
    "rtsp://host/cam1 rtsp://host/cam2 latency=500ms": "videos/a.mp4 videos/b.mp4", " --serve 127.0.0.1:8080": "",
    "python -m framerail": f"{sys.executable} -m framerail", "framerail run": f"{sys.executable} -m framerail run",
    "framerail blur-faces": f"{sys.executable} -m framerail blur-faces",
}  # fmt: skip


def blocks(language):
    found = []
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        if kind != language:
            continue
        for name, value in REPLACED.items():
            text = text.replace(name, value)
        found.append(text)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which everything is run, and the environment that leads to its bucket."""
    import fsspec

    folder = tmp_path_factory.mktemp("page")
    clip = make_clip(folder / "in.mp4", frames=40)
    for name in ("videos/a.mp4", "videos/b.mp4", "a.mp4", "b.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, folder / name)
    server, proxy, options = served()
    system = fsspec.filesystem("s3", **options)
    for name in ("in.mp4", "a.mp4", "b.mp4", "long.mp4", "videos/a.mp4"):
        system.put_file(str(clip), f"bucket/{name}")
    values = {"AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-west-1"}
    yield folder, values
    proxy.shutdown()
    server.stop()


def environment(cluster, values):
    return {**os.environ, **values, "AWS_DEFAULT_REGION": "eu-west-1", "RAY_ADDRESS": cluster.address}


def test_commands(cluster, place):
    folder, values = place
    commands = [line for block in blocks("") for line in block.splitlines()]
    assert len(commands) >= 7
    for command in commands:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, env=environment(cluster, values))
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (folder / "report.html").exists() and (folder / "out/a.mp4").exists() and (folder / "covered/a_anonymized.mp4").exists()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python(cluster, place, number):
    folder, values = place
    code = blocks("python")[number]
    for package in ("torch", "daft"):
        if package in code:
            pytest.importorskip(package)
    # Blocks that follow others use what those have imported.
    code = "import framerail as fr\nimport framerail.ray as fr_ray\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment(cluster, values))
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
