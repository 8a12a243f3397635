"""Frames handed in by the program: pushed, taken from iterables, and read live."""

import gc
import itertools
import os
import runpy
import threading
import weakref
from pathlib import Path

import framerail as fr
import numpy as np
import pytest
from clips import number_of

pytestmark = pytest.mark.usefixtures("no_hang")

HEIGHT, WIDTH = 48, 64


def picture(number, height=HEIGHT, width=WIDTH):
    """A frame whose grey is its number, with a coloured part."""
    frame = np.full((height, width, 3), 10 + number, np.uint8)
    frame[: height // 2, : width // 2] = (200, 40, 90)
    return frame


def pictures(count, **options):
    return [picture(number, **options) for number in range(count)]


def seen(source, stages="", **run):
    """Frames as a pipeline gives them (RGB, seconds), and the run's statistics."""
    found = []
    pipeline = fr.Pipeline(f"read given:x{stages} ! null", device="cpu", sources={"given:x": source})
    pipeline.on("null", lambda batch: found.append((batch[0].rgb(), batch[0].seconds, batch[0].index)))
    stats = pipeline.run(**run)
    return found, stats


def counters(stats, stage="read"):
    return next(one for one in stats["stages"] if one["name"] == stage)["counters"]


class OnlyDlpack:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", ["list", "generator", "array", "pairs", "planar", "dlpack"])
def test_frames_of_every_kind_of_source_come_out_in_order(kind):
    frames = pictures(9)
    sources = {
        "list": lambda: frames,
        "generator": lambda: iter(frames),
        "array": lambda: np.stack(frames),
        "pairs": lambda: ((frame, number / 30) for number, frame in enumerate(frames)),
        "planar": lambda: [frame.transpose(2, 0, 1).copy() for frame in frames],
        "dlpack": lambda: map(OnlyDlpack, frames),
    }
    found, stats = seen(sources[kind]())
    assert [index for _, _, index in found] == list(range(9))
    assert [at for _, at, _ in found] == pytest.approx([number / 30 for number in range(9)], abs=1e-4)
    for (rgb, _, _), frame in zip(found, frames):
        # Away from borders, where four pixels share their chroma.
        assert np.abs(np.asarray(rgb).astype(int) - frame)[3:-3:6, 3:-3:6].max() <= 3
    assert not any(counters(stats)[name] for name in ("frames_dropped", "timestamps_repaired"))


def test_batches_of_a_reader_keep_their_times(clip):
    with fr.VideoReader(clip, output="numpy") as reader:
        found, _ = seen(reader.batches(7, start=5, stop=45))
        assert [number_of(rgb, "THWC") for rgb, _, _ in found] == list(range(5, 45))
        assert [at for _, at, _ in found] == pytest.approx(reader.read(range(5, 45)).seconds.tolist(), abs=1e-4)


def test_values_are_kept_in_rgb():
    noise = np.random.default_rng(3).integers(0, 256, (4, 33, 35, 3), np.uint8)
    found, _ = seen(fr.FrameInput(noise, pixel_format="rgb24"))
    assert np.array_equal([np.asarray(rgb) for rgb, _, _ in found], noise)
    found, _ = seen(fr.FrameInput(noise[..., ::-1], pixel_format="rgb24", channels="bgr"))
    assert np.array_equal([np.asarray(rgb) for rgb, _, _ in found], noise)
    with fr.live(noise, fr.Preprocess(dtype="uint8", normalize=None, layout="THWC"), drop="none", output="numpy") as frames:
        assert np.array_equal(np.concatenate([batch.data for batch in frames]), noise)


@pytest.mark.parametrize("frame", [np.full((48, 64), 90, np.uint8), np.full((48, 64, 3), 90 * 257, np.uint16), np.full((1, 1, 3), 90, np.uint8)])
def test_grey_deep_and_tiny_frames(frame):
    layout = "THWC" if frame.shape[0] == 1 else "auto"
    found, _ = seen(fr.FrameInput([frame] * 3, layout=layout))
    assert len(found) == 3 and all(np.abs(np.asarray(rgb).astype(int) - 90).max() <= 2 for rgb, _, _ in found)


def test_a_written_file_holds_every_frame(tmp_path):
    out = tmp_path / "out.mkv"
    source = fr.FrameInput(pictures(25), fps=12.5)
    pipeline = fr.Pipeline(f"read given:x ! write '{out}' codec=ffv1", sources={"given:x": source})
    assert ("read", "write") in [(one, other) for one, other, _ in pipeline.edges()]
    pipeline.run()
    with fr.VideoReader(out, output="numpy") as reader:
        read = reader.read(range(25))
        assert len(reader) == 25 and read.seconds.tolist() == pytest.approx([number / 12.5 for number in range(25)], abs=1e-3)
        assert read.data[:, 0, -3, -3].tolist() == pytest.approx(list(range(10, 35)), abs=2)


def test_a_program_pushes_while_the_pipeline_runs():
    camera, answers = fr.FrameInput(fps=10), []

    def push():
        with camera:
            answers.extend(camera.push(frame) for frame in pictures(20))

    thread = threading.Thread(target=push)
    thread.start()
    found, _ = seen(camera)
    thread.join()
    assert answers == [True] * 20 and camera.pushed == 20 and camera.dropped == 0
    assert [at for _, at, _ in found] == pytest.approx([number / 10 for number in range(20)])
    with pytest.raises(ValueError, match="closed"):
        camera.push(picture(0))
    with pytest.raises(ValueError, match="read before"):
        seen(camera)


def test_frames_that_find_no_room_are_counted():
    camera = fr.FrameInput(full="drop", buffer=3)
    for frame in pictures(10):
        camera.push(frame)
    camera.close()
    found, stats = seen(camera)
    assert [index for _, _, index in found] == [7, 8, 9] and camera.dropped == 7 and counters(stats)["frames_dropped"] == 7
    # By the clock, and a live source that ends is not opened again.
    assert [at for _, at, _ in found] == sorted(at for _, at, _ in found) and counters(stats).get("reconnects", 0) == 0


def test_times_that_do_not_increase_are_repaired_and_counted():
    found, stats = seen([(frame, at) for frame, at in zip(pictures(4), (0.0, 0.5, 0.5, 0.75))])
    times = [at for _, at, _ in found]
    assert times == sorted(set(times)) and times[3] == 0.75 and counters(stats)["timestamps_repaired"] == 1


def test_sizes_may_change_unless_one_is_given():
    mixed = [picture(0), picture(1, 32, 80), picture(2)]
    found, _ = seen(mixed, " ! scale 64x48")
    assert [np.asarray(rgb).shape for rgb, _, _ in found] == [(48, 64, 3), (26, 64, 3), (48, 64, 3)]
    with pytest.raises(ValueError, match="80x32, and size= says 64x48"):
        seen(fr.FrameInput(mixed, size=(48, 64)))


def test_a_size_makes_formats_known_before_the_first_frame():
    camera = fr.FrameInput(size=(48, 64))
    pipeline = fr.Pipeline("read given:x ! scale 32x24 ! null", device="cpu", sources={"given:x": camera})
    assert "64x48" in pipeline.edges()[0][2] and camera.pushed == 0


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("full", ["wait", "drop"])
def test_what_an_iterable_raises_comes_out_of_run(after, full):
    class Gone(Exception):
        pass

    def frames():
        yield from pictures(after)
        raise Gone("the camera is gone")

    found = []
    pipeline = fr.Pipeline("read given:x ! null", device="cpu", sources={"given:x": fr.FrameInput(frames(), full=full)})
    pipeline.on("null", found.append)
    with pytest.raises(Gone, match="the camera is gone"):
        pipeline.run()
    # Of a live source, what has not left its buffer is gone with the run.
    assert len(found) == after or full == "drop"
    with pytest.raises(Gone), fr.live(frames(), output="numpy") as batches:
        list(batches)


def test_a_program_ends_a_run_with_its_error():
    camera = fr.FrameInput()
    with pytest.raises(RuntimeError, match="unplugged"):
        with camera:
            camera.push(picture(0))
            raise RuntimeError("unplugged")
    with pytest.raises(RuntimeError, match="unplugged"):
        seen(camera)


@pytest.mark.parametrize(
    "frame, words",
    [
        (np.zeros((48, 64, 4), np.uint8), "has 4 channels"),
        (np.zeros((48, 64, 3), np.float32), "scale to 0 to 255"),
        (np.zeros((2, 48, 64, 3), np.uint8), "2 frames; push them one by one"),
        (np.zeros((0, 64, 3), np.uint8), "shape"),
        ("text", "elements of"),
    ],
)
def test_what_is_not_a_frame_is_named(frame, words):
    with pytest.raises(ValueError, match=words):
        fr.FrameInput().push(frame)
    with pytest.raises(ValueError, match=words):
        seen(iter([frame]))


def test_options_that_do_not_fit_are_named():
    for options, words in [({"full": "never"}, "full"), ({"fps": 0}, "fps"), ({"buffer": 0}, "buffer"), ({"layout": "HWC"}, "layout")]:
        with pytest.raises(ValueError, match=words):
            fr.FrameInput(**options)
    with pytest.raises(ValueError, match="iterable of frames"):
        fr.FrameInput(3)
    with pytest.raises(ValueError, match="taken from an iterable"):
        fr.FrameInput([]).push(picture(0))
    with pytest.raises(fr.PipelineError, match="no frame was handed in"):
        seen([])
    with pytest.raises(fr.PipelineUsageError, match="`track` is for files"):
        seen(pictures(2), " track=1")
    with pytest.raises(fr.PipelineUsageError, match="handed in"):
        seen(pictures(2), " loop=2")


def test_parts_of_a_stream_are_taken_by_time():
    found, _ = seen(fr.FrameInput(pictures(30), fps=10), " start=1 duration=0.5")
    assert [index for _, _, index in found] == [10, 11, 12, 13, 14]


def test_lists_are_read_again_and_iterators_once():
    frames = pictures(3)
    pipeline = fr.Pipeline("read given:x ! null", device="cpu", sources={"given:x": frames})
    pipeline.edges()
    found = []
    pipeline.on("null", lambda batch: found.append(batch[0].index))
    pipeline.run()
    pipeline.run()
    assert found == [0, 1, 2] * 2
    once = fr.Pipeline("read given:x ! null", device="cpu", sources={"given:x": iter(frames)})
    once.edges()
    once.run()
    with pytest.raises(ValueError, match="read before"):
        once.run()


def test_an_endless_source_ends_with_the_run():
    is_over = threading.Event()

    def frames():
        try:
            for number in itertools.count():
                yield picture(number % 200)
        finally:
            is_over.set()

    pipeline = fr.Pipeline("read given:x ! null", device="cpu", sources={"given:x": frames()})
    pipeline.on("null", lambda batch: pipeline.stop() if batch[0].index == 5 else None)
    pipeline.run()
    assert is_over.wait(10)
    is_over.clear()
    with fr.live(frames(), output="numpy") as batches:
        assert len(next(batches)) == 1
    assert is_over.wait(10)


def test_a_pipeline_that_never_runs_lets_its_source_go():
    is_over = threading.Event()

    def frames():
        try:
            while True:
                yield picture(1)
        finally:
            is_over.set()

    pipeline = fr.Pipeline("read given:x ! null", device="cpu", sources={"given:x": frames()})
    pipeline.edges()
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None and is_over.wait(10)


def test_several_sources_run_side_by_side():
    sources = {f"given:{name}": fr.FrameInput(pictures(6), fps=5) for name in "ab"}
    found = []
    pipeline = fr.Pipeline("read given:a given:b streams=all ! null", device="cpu", sources=sources)
    pipeline.on("null", lambda batch: found.append((batch[0].stream, batch[0].index)))
    pipeline.run()
    assert sorted(found) == [(stream, index) for stream in (0, 1) for index in range(6)]
    with fr.live([fr.FrameInput(pictures(4)), fr.FrameInput(pictures(4))], batch=4, drop="none", output="numpy") as batches:
        assert sorted(stream for batch in batches for stream in batch.streams) == [0] * 4 + [1] * 4


def test_a_stuck_source_does_not_hold_up_the_end():
    release, ended = threading.Event(), []

    def frames():
        yield picture(0)
        ended.append(release.wait(60))

    with fr.live(frames(), output="numpy") as batches:
        next(batches)
    assert not ended
    release.set()


def test_the_example_with_frames_of_the_program_runs(tmp_path, capsys):
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    runpy.run_path(str(Path(sources) / "examples" / "python" / "own_frames.py"))["main"](tmp_path / "out.mp4")
    assert capsys.readouterr().out.splitlines() == ["written: 60 frames", "pushed: 10 frames, 0 dropped", "live: 8 frames of 90x160"]
    with fr.VideoReader(tmp_path / "out.mp4", output="numpy") as reader:
        assert len(reader) == 60
