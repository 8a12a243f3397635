"""Stages of NeMo Curator, called as it calls them; skipped where it is not installed."""

import pathlib

import pytest
from clips import numbers_of

pytest.importorskip("nemo_curator.tasks.video", reason="NOT TESTED: NeMo Curator is not installed", exc_type=ImportError)

from framerail.curator import DecodeFrames, Detect  # noqa: E402
from nemo_curator.tasks.video import Video, VideoTask  # noqa: E402


def task(path):
    return VideoTask(dataset_name="test", data=Video(input_video=pathlib.Path(path), source_bytes=path.read_bytes()))


def test_bytes_are_decoded(good):
    found = DecodeFrames(fps=5).process(task(good / "a.mp4")).data
    assert numbers_of(found.frame_array, "THWC") == list(range(0, 40, 5)) and not found.errors
    about = found.metadata
    assert (about.width, about.height, about.num_frames, about.framerate, about.video_codec) == (128, 96, 40, 25.0, "h264")
    assert len(DecodeFrames(size=(24, 32)).process(task(good / "a.mp4")).data.frame_array) == 40


def test_detections_are_noted_in_the_task(good):
    stage = Detect(stages="infer centerface confidence=0.02 size=128x96 every=10")
    stage.setup()
    found = stage.process(task(good / "a.mp4"))._metadata["detections"]
    assert found and all(one["frame"] % 10 == 0 and len(one["box"]) == 4 for one in found)


def test_damage_is_an_error_of_the_video(videos):
    for stage in (DecodeFrames(), Detect(stages="infer centerface")):
        assert "finds no media" in stage.process(task(videos / "damaged.mp4")).data.errors["framerail"]
