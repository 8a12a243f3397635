"""The examples of examples/ray and of docs/scale.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(cluster, name, *arguments):
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    done = subprocess.run([sys.executable, ROOT / "examples/ray" / name, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_batch_inference(cluster, videos, tmp_path):
    assert "detections" in run(cluster, "batch_inference.py", videos, tmp_path / "boxes")


def test_blurring(cluster, videos, tmp_path):
    assert "3 done, 1 failed" in run(cluster, "blur.py", videos, tmp_path / "out")
    assert "3 done before" in run(cluster, "blur.py", videos, tmp_path / "out") and (tmp_path / "out/report.html").exists()


def test_training(cluster, good):
    pytest.importorskip("torch")
    assert "3 steps" in run(cluster, "train.py", good)
