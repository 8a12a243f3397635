"""Clips, frames and detections as Ray data sets."""

import framerail as fr
import framerail.ray as fr_ray
import numpy as np
import pytest
import ray
from clips import numbers_of
from framerail.jobs import list_inputs
from framerail.ray.read import ClipSource, FrameSource, Share

pytestmark = pytest.mark.usefixtures("cluster")


def test_clips_are_rows_with_tensors(good):
    data = fr_ray.read_clips(good, frames_per_clip=8, stride=2, step=8)
    rows = sorted(data.take_all(), key=lambda row: (row["path"], row["clip"]))
    assert len(rows) == 12 and set(rows[0]) == {"path", "clip", "seconds", "frames"}
    for row in rows:
        first = {"a.mp4": 0, "b.mp4": 100, "c.mp4": 200}[row["path"].rpartition("/")[2]] + 8 * row["clip"]
        wanted = [first + 2 * frame for frame in range(8)]
        assert numbers_of(row["frames"], "THWC") == wanted
        assert np.allclose(row["seconds"] * 25, np.array(wanted) % 100)


def test_batches_are_views_of_blocks(good):
    torch = pytest.importorskip("torch")
    data = fr_ray.read_clips(good, frames_per_clip=8, size=(240, 320)).select_columns(["clip", "seconds", "frames"]).materialize()
    # Frames of this size lie in shared memory, at one place for this process.
    kept = [ray.get(reference) for bundle in data.iter_internal_ref_bundles() for reference in bundle.block_refs]
    buffers = [buffer for block in kept for chunk in block.column("frames").chunks for buffer in chunk.storage.buffers() if buffer]
    batches = list(data.iter_torch_batches(batch_size=None))
    assert sum(len(batch["frames"]) for batch in batches) == 15
    for batch in batches:
        assert batch["frames"].shape[1:] == (8, 240, 320, 3) and batch["frames"].dtype == torch.uint8
        address = batch["frames"].data_ptr()
        assert any(buffer.address <= address < buffer.address + buffer.size for buffer in buffers), "the batch is a copy"


def test_frames_are_rows(good):
    rows = fr_ray.read_frames(good, every=10).take_all()
    found = {(row["path"].rpartition("/")[2], row["frame"]): numbers_of([row["image"]], "THWC")[0] for row in rows}
    assert found == {(name, frame): first + frame for name, first in (("a.mp4", 0), ("b.mp4", 100), ("c.mp4", 200)) for frame in (0, 10, 20, 30)}


def test_damaged_files_raise_or_are_skipped(videos):
    assert fr_ray.read_frames(videos, every=20, errors="skip").count() == 6
    with pytest.raises(Exception, match="finds no media"):
        fr_ray.read_frames(videos, every=20).count()
    with pytest.raises(ValueError, match="option 'errors'"):
        fr_ray.read_frames(videos, errors="ignore")
    with pytest.raises(TypeError, match="sizes"):
        fr_ray.read_clips(videos, sizes=(3, 3))


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"size": -3}, "option 'size'"),
        ({"transforms": [lambda frames: frames]}, "option 'transforms'"),
        ({"layout": "TCWH"}, "option 'layout'"),
        ({"policy": "often"}, "option 'policy'"),
        ({"step": 0}, "option 'step'"),
        ({"edge": "wrapped"}, "option 'edge'"),
        ({"block_bytes": 0}, "option 'block_bytes'"),
    ],
)
def test_options_are_checked_before_anything_starts(good, options, wrong):
    with pytest.raises(ValueError, match=wrong):
        fr_ray.read_clips(good, **options)


def test_blocks_are_filled_from_several_files_and_their_memory_is_used_again(good):
    inputs = list_inputs(good)
    row = 128 * 96 * 3
    source = FrameSource(inputs, 1, "raise", 25 * row, None, {})
    wanted = [first + frame for first in (0, 100, 200) for frame in range(40)]
    found, addresses, kept = [], [], None
    for block in source.blocks([Share(one) for one in inputs]):
        images = block.column("image").combine_chunks().to_numpy_ndarray() if block.num_rows else None
        found.append(numbers_of(images, "THWC"))
        addresses.append(images.ctypes.data)
        if kept is None:
            # A consumer that holds on to frames.
            kept = images
    assert [len(numbers) for numbers in found] == [25, 25, 25, 25, 20] and sum(found, []) == wanted
    assert numbers_of(kept, "THWC") == wanted[:25], "frames that are in use were overwritten"
    assert addresses.count(addresses[0]) == 1 and len(set(addresses)) < 5


@pytest.mark.parametrize("kind", ["clips", "frames"])
def test_a_long_file_is_divided_at_keyframes(long_video, kind, monkeypatch):
    monkeypatch.setattr("framerail.ray.read._LEAST_BYTES", 1)
    sampling = {"frames_per_clip": 4, "stride": None, "step": 4, "policy": "every", "num_clips": None, "by": "frames", "seed": 0, "edge": "repeat"}
    inputs = list_inputs(long_video)
    if kind == "clips":
        source, each, column = ClipSource(inputs, sampling, "raise", 4 * 4 * 128 * 96 * 3, None, {}), 4, "clip"
    else:
        source, each, column = FrameSource(inputs, 1, "raise", 4 * 4 * 128 * 96 * 3, None, {}), 1, "frame"
    tasks = source._divided(8)
    assert len(tasks) == 8 and all(len(shares) == 1 for shares in tasks)
    for shares in tasks:
        assert shares[0].first * each % 20 == 0, "a share begins at a keyframe"
    blocks = [block for shares in tasks for block in source.blocks(shares)]
    assert [number for block in blocks for number in block.column(column).to_pylist()] == list(range(600 // each))
    assert max(block.nbytes for block in blocks) < 4 * 4 * 128 * 96 * 3 * 1.1 and len(blocks) > 8


def boxes_of(rows):
    return sorted((row["path"].rpartition("/")[2], row["frame"], np.round(np.asarray(row["boxes"], float).reshape(-1, 4), 3).tolist()) for row in rows)


def test_detect_gives_the_same_for_paths_bytes_and_frames(good):
    stages = "infer centerface confidence=0.02 size=128x96"
    wanted = []
    for path in sorted(good.rglob("*.mp4")):
        found = []
        fr.Pipeline(f"read {path} ! {stages} ! null").on("infer", lambda items, found=found: found.append((items[0].index, [one.bbox_xyxy for one in items[0].detections]))).run()
        wanted += [{"path": str(path), "frame": frame, "boxes": boxes} for frame, boxes in found]
    wanted = boxes_of(wanted)
    assert len(wanted) == 120 and any(boxes for _, _, boxes in wanted)
    detect = fr_ray.Detect(stages)
    pool = ray.data.ActorPoolStrategy(size=1)
    paths = ray.data.from_items([{"path": str(path)} for path in sorted(good.rglob("*.mp4"))])
    assert boxes_of(paths.map_batches(detect, batch_size=2, compute=pool).take_all()) == wanted
    contents = ray.data.read_binary_files(str(good), include_paths=True)
    assert boxes_of(contents.map_batches(detect, batch_size=2, compute=pool).take_all()) == wanted
    # Frames are RGB by now, so boxes differ in the last digits.
    frames = fr_ray.read_frames(good).map_batches(detect, batch_size=16, compute=pool).take_all()
    assert len(frames) == 120 and set(frames[0]) >= {"path", "frame", "seconds", "boxes", "scores", "labels"} and "image" not in frames[0]


def test_detections_of_a_folder_are_rows_and_frames_do_not_travel(videos):
    text = "read {path} ! infer centerface confidence=0.02 size=128x96 ! save {rows}"
    data = fr_ray.run(text, videos).materialize()
    rows = data.take_all()
    wrong = [row for row in rows if row["error"]]
    assert len(wrong) == 1 and "finds no media" in wrong[0]["error"] and wrong[0]["path"].endswith("damaged.mp4") and wrong[0]["x1"] is None
    found = {row["path"].rpartition("/")[2] for row in rows if not row["error"]}
    assert found <= {"a.mp4", "b.mp4", "c.mp4"} and found and all(row["x2"] > row["x1"] for row in rows if not row["error"])
    with pytest.raises(Exception, match="finds no media"):
        fr_ray.run(text, videos, errors="fail").take_all()
