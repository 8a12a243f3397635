"""Frames and detections as expressions of Daft."""

import framerail as fr
import numpy as np
import pytest
from clips import numbers_of

daft = pytest.importorskip("daft", reason="NOT TESTED: Daft is not installed (make test-scale)")

import framerail.daft as fr_daft  # noqa: E402

STAGES = "infer centerface confidence=0.02 size=128x96 every=10"


@pytest.mark.parametrize("kind", ["path", "bytes", "glob"])
def test_frames_and_detections_are_columns(good, kind):
    paths = sorted(str(path) for path in good.rglob("*.mp4"))
    if kind == "glob":
        table = daft.from_glob_path(f"{good}/**/*.mp4").select("path").sort("path")
    else:
        table = daft.from_pydict({"path": paths if kind == "path" else [open(path, "rb").read() for path in paths]})  # noqa: SIM115
    table = table.with_column("frames", fr_daft.Frames(every=10)(table["path"]))
    table = table.with_column("boxes", fr_daft.Detections(STAGES)(table["path"]))
    found = table.to_pydict()
    assert sorted(numbers_of(frames, "THWC") for frames in found["frames"]) == [[first + frame for frame in (0, 10, 20, 30)] for first in (0, 100, 200)]
    wanted = []
    fr.Pipeline(f"read {paths[0]} ! {STAGES} ! null").on("infer", lambda items: wanted.extend((items[0].index, one.score) for one in items[0].detections)).run()
    first = next(boxes for frames, boxes in zip(found["frames"], found["boxes"]) if numbers_of(frames[:1], "THWC") == [0])
    assert [(box["frame"], round(box["score"], 5)) for box in first] == [(frame, round(score, 5)) for frame, score in wanted] and wanted
    assert all(len(box["box"]) == 4 and box["label"] == "face" for box in first)


def test_the_number_of_frames_is_limited(good):
    table = daft.from_pydict({"path": [str(good / "a.mp4")]})
    frames = table.select(fr_daft.Frames(limit=5, size=(24, 32))(table["path"]).alias("frames")).to_pydict()["frames"][0]
    assert np.asarray(frames).shape == (5, 24, 32, 3)
