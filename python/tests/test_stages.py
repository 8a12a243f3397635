"""Python functions and models as stages of pipelines; functions of NumPy stand in for models."""

import copy
import json
import os
import pickle
import runpy
import threading
import traceback
from pathlib import Path

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, make_clip, number_of, numbers_of

pytestmark = pytest.mark.usefixtures("no_hang")

SIZE = 128


def stage_of(stats, name):
    return next(stage for stage in stats["stages"] if stage["name"] == name)


def collected(pipeline, stage):
    """What a stage gives, as a list of (frame, detections)."""
    found = []
    pipeline.on(stage, lambda batch: found.extend((item.index, item.detections) for item in batch))
    return found


class BoxModel:
    """Gives one box each frame: its lower right quarter, in pixels of a square input; its score is the frame's number."""

    def __init__(self):
        self.sizes, self.threads = [], set()

    def __call__(self, pictures):
        assert isinstance(pictures, np.ndarray) and pictures.dtype == np.float32 and pictures.max() <= 1.0
        self.sizes.append(len(pictures))
        self.threads.add(threading.current_thread())
        # 128 x 96 in 128 x 128: rows 16 to 112.
        numbers = [number_of(picture[:, 16:112] * 255) for picture in pictures]
        return np.array([[[64, 64, 128, 112, number / 100, 1], [0, 0, 9, 9, 0, 0]] for number in numbers], np.float32)


def test_a_model_sees_batches_and_its_boxes_are_in_frame_pixels(clip, tmp_path):
    out = tmp_path / "boxes.jsonl"
    model = BoxModel()
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch detector batch=16 ! save '{out}'")
    preprocess = fr.Preprocess(size=SIZE, fit="letterbox")
    assert pipeline.model("detector", model, preprocess=preprocess, labels=["none", "thing"], arrays="numpy") is pipeline
    found = collected(pipeline, "detector")
    stats = pipeline.run()
    assert model.sizes == [16, 16, 16, 12] and threading.main_thread() not in model.threads and len(model.threads) == 1
    assert [index for index, _ in found] == list(range(60))
    # Frame 0 has score 0, as padding has.
    assert [len(detections) for _, detections in found] == [0] + [1] * 59
    for index, (one,) in found[1:]:
        assert one.bbox_xyxy == pytest.approx((64, 48, 128, 96)) and one.score == pytest.approx(index / 100)
        assert (one.label, one.label_id, one.attributes) == ("thing", 1, [])
    counters = stage_of(stats, "torch")["counters"]
    found = {name: count for name, count in counters.items() if count}
    assert found == {"frames_analysed": 60, "detections": 59, "calls": 4}
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(len(line.get("detections", [])) for line in frames) == 59


def test_a_model_gets_what_a_reader_gives(clip):
    options = fr.Preprocess(size=(50, 70), normalize=fr.IMAGENET, layout="THWC", channels="bgr", resize="area")
    with fr.VideoReader(clip, output="numpy", **options.options) as reader:
        expected = reader[:]
    pictures = []
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=7 ! null")
    nothing = lambda outputs, batch: [[]] * len(batch)  # noqa: E731
    pipeline.model("m", lambda batch: pictures.append(batch.copy()), preprocess=options, postprocess=nothing, arrays="numpy")
    pipeline.run()
    assert np.array_equal(np.concatenate(pictures), expected)


def test_every_leaves_frames_out_and_batches_stay_full(clip):
    model = BoxModel()
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch detector batch=4 every=3 ! null")
    pipeline.model("detector", model, preprocess=fr.Preprocess(size=SIZE, fit="letterbox"), arrays="numpy")
    seen = []
    pipeline.on("torch", lambda batch: seen.append((batch[0].index, batch[0].analysed, len(batch[0].detections))))
    pipeline.run()
    assert model.sizes == [4] * 5 and [entry[0] for entry in seen] == list(range(60))
    assert all(analysed == (index % 3 == 0) and count == (analysed and index > 0) for index, analysed, count in seen)


def test_frames_come_and_go_while_the_model_works(clip):
    """The first call ends only when frames of later batches were read, and saved frames of the first are not waited for."""
    later = threading.Event()

    def model(pictures):
        assert later.wait(60), "the pipeline stood still while the model worked"
        return [{"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}] * len(pictures)

    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null")
    pipeline.model("m", model, arrays="numpy").on("read", lambda batch: later.set() if batch[0].index >= 8 else None)
    assert stage_of(pipeline.run(), "torch")["counters"]["frames_analysed"] == 60


def test_functions_make_detections_of_outputs(clip):
    def lists(outputs, batch):
        assert outputs == "outputs" and batch.data.shape == (len(batch), 3, 48, 64) and len(batch.frames) == len(batch)
        boxes = batch.to_frame([[32, 24, 64, 48]])
        assert boxes.dtype == np.float32 and boxes.tolist() == [[64, 48, 128, 96]]
        assert batch.to_frame([[[32, 24]]] * len(batch)).shape == (len(batch), 1, 2)
        return [[fr.Detection(tuple(boxes[0]), 0.5, "thing")] for _ in batch]

    def dicts(outputs, batch):
        mask = np.zeros((1, HEIGHT, WIDTH), bool)
        mask[:, 10:20, 30:50] = True
        one = {"boxes": [[30, 10, 50, 20]], "labels": ["cat"], "keypoints": [[[31, 11], [32, 12]]], "masks": mask}
        return [one, *[None] * (len(batch) - 1)]

    for function, count in ((lists, 60), (dicts, 15)):
        pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null")
        pipeline.model("m", lambda pictures: "outputs", preprocess=fr.Preprocess(size=(48, 64)), postprocess=function, arrays="numpy")
        found = collected(pipeline, "m")
        pipeline.run()
        assert sum(len(detections) for _, detections in found) == count
    (one,) = found[0][1]
    (attribute,) = one.attributes
    assert (one.label, one.landmarks, attribute.model, attribute.kind) == ("cat", [(31, 11), (32, 12)], "m", "mask")
    assert attribute.mask.bbox_xyxy == (30, 10, 50, 20) and (attribute.mask.coverage == 255).all() and attribute.classes is None


def test_logits_become_classes(clip):
    logits = np.array([0.0, 3.0, 1.0, -2.0], np.float32)
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=8 ! null")
    pipeline.model("m", lambda pictures: np.tile(logits, (len(pictures), 1)), labels=list("abcd"), top_k=2, arrays="numpy")
    found = collected(pipeline, "m")
    pipeline.run()
    (one,) = found[-1][1]
    (attribute,) = one.attributes
    share = np.exp(logits) / np.exp(logits).sum()
    assert one.bbox_xyxy == (0, 0, WIDTH, HEIGHT) and (one.label, one.label_id) == ("b", 1)
    assert [(label, number) for label, _, number in attribute.classes] == [("b", 1), ("c", 2)]
    assert [score for _, score, _ in attribute.classes] == pytest.approx(share[[1, 2]])


@pytest.mark.parametrize(
    "outputs, words",
    [
        (np.zeros((4, 6), np.float32), "may be 4 frames with logits of 6 classes, or boxes"),
        ({"pred": np.zeros((4, 3, 3))}, r"a dict of pred: ndarray \[4, 3, 3\]"),
        ([1, 2], "a list of 2, the first a int"),
        (None, "a NoneType"),
    ],
)
def test_other_forms_are_named(clip, outputs, words):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null").model("m", lambda pictures: outputs, arrays="numpy")
    with pytest.raises(ValueError, match=words):
        pipeline.run()


@pytest.mark.parametrize(
    "answer, words",
    [
        (5, "a int; return a list with an entry"),
        ([[]], "1 entries for 4 frames"),
        ([[3]] * 4, "frame 0 is a list of 1"),
        ([{}] * 4, "without 'boxes'"),
        ([{"boxes": [], "score": []}] * 4, "key 'score'; did you mean 'scores'"),
    ],
)
def test_what_functions_give_is_checked(clip, answer, words):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null")
    pipeline.model("m", lambda pictures: None, postprocess=lambda outputs, batch: answer, arrays="numpy")
    with pytest.raises(ValueError, match=words):
        pipeline.run()


def test_what_user_code_raises_comes_out_with_its_traceback(clip, tmp_path):
    class Mine(Exception):
        pass

    def broken(data):
        raise Mine("seven")

    def of_model():
        return fr.Pipeline(f"read '{clip}' ! torch m ! write '{tmp_path}/a.mp4'").model("m", broken, arrays="numpy")

    def of_stage():
        return fr.Pipeline(f"read '{clip}' ! write '{tmp_path}/a.mp4'").insert_after("read", broken)

    class Begins:
        def start(self):
            raise Mine("start")

        def __call__(self, batch):
            pass

    for make in (of_model, of_stage):
        with pytest.raises(Mine, match="seven") as caught:
            make().run()
        assert "broken" in "".join(traceback.format_tb(caught.value.__traceback__))
    with pytest.raises(Mine, match="start"):
        fr.Pipeline(f"read '{clip}' ! null").insert_after("read", Begins).run()
    assert not list(tmp_path.iterdir()), "nothing unfinished is kept"


def test_what_is_not_given_is_named(clip):
    pipeline = fr.Pipeline(f"read '{clip}' ! torch detector ! null")
    with pytest.raises(fr.PipelineError, match=r'no model named "detector" was set'):
        pipeline.run()
    with pytest.raises(ValueError, match="option 'name': 'detektor'; use 'detector'"):
        pipeline.model("detektor", print)
    with pytest.raises(fr.PipelineError, match=r'no function named "count" was set'):
        fr.Pipeline(f"read '{clip}' ! python count ! null").run()
    for bad, words in (
        (dict(model=3), "model"), (dict(postprocess="yolo"), "postprocess"), (dict(preprocess=(300, 300)), "preprocess"),
        (dict(autocast="float32"), "autocast"), (dict(arrays="jax"), "arrays"), (dict(top_k=0), "top_k"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"option '{words}'"):
            pipeline.model("detector", **{"model": print, **bad})
    with pytest.raises(ValueError, match="channels"):
        fr.Preprocess(channels="yuv")


def test_sources_of_several_sizes(clip, tmp_path):
    other = make_clip(tmp_path / "other.mp4", frames=10, width=160, height=128)
    shapes = set()

    def model(pictures):
        shapes.add(pictures.shape[2:])
        return [{"boxes": np.array([[8.0, 8, 16, 16]]), "scores": np.ones(1), "labels": np.zeros(1, int)}] * len(pictures)

    for preprocess, expected in ((None, {(96, 128), (128, 160)}), (fr.Preprocess(size=(64, 64)), {(64, 64)})):
        shapes.clear()
        pipeline = fr.Pipeline(f"read '{clip}' '{other}' device=cpu ! torch m batch=16 ! null")
        pipeline.model("m", model, preprocess=preprocess, arrays="numpy")
        boxes = {}
        pipeline.on("torch", lambda batch, boxes=boxes: boxes.update({batch[0].stream: batch[0].detections[0].bbox_xyxy}))
        pipeline.run()
        assert shapes == expected
    assert boxes == {0: (16, 12, 32, 24), 1: (20, 16, 40, 32)}


def test_a_function_is_a_separate_stage(clip):
    threads, sizes = set(), []

    @fr.stage(batch=8)
    def count(batch):
        threads.add(threading.current_thread())
        sizes.append(len(batch))
        assert isinstance(batch, fr.ItemBatch) and batch.numbers.tolist() == [frame.index for frame in batch]
        batch.detections = [[fr.Detection((0, 0, 10, 10), 0.5, "thing")]] * len(batch)

    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! sample every=2 ! null").insert_after("read", count)
    assert pipeline.stages == ["read", "count", "sample", "null"] and "python count name=count" in pipeline.text
    assert pipeline.edges()[1][:2] == ("count", "sample")
    found = collected(pipeline, "sample")
    stats = pipeline.run()
    assert sizes == [8] * 7 + [4] and threading.main_thread() not in threads and len(threads) == 1
    assert len(found) == 30 and all(len(detections) == 1 for _, detections in found)
    assert stage_of(stats, "count")["counters"] == {"frames_dropped": 0}


def test_places_of_stages(clip):
    def first(batch):
        pass

    def second(batch):
        pass

    pipeline = fr.Pipeline(f"read '{clip}' ! tee ( sample every=2 ! null name=a ) ! torch m ! null name=b")
    pipeline.insert_before("a", first).insert_after("m", second).insert_after("m", first).insert_before("second", first, name="third")
    assert pipeline.stages == ["read", "tee", "sample", "first", "a", "torch", "first-2", "third", "second", "b"]
    with pytest.raises(ValueError, match="gives no frames; use insert_before"):
        pipeline.insert_after("b", first)
    with pytest.raises(ValueError, match="makes the frames; use insert_after"):
        pipeline.insert_before("read", first)
    with pytest.raises(ValueError, match="use one of read, tee"):
        pipeline.insert_after("nothing", first)
    with pytest.raises(ValueError, match="function"):
        pipeline.insert_after("read", 5)
    again = fr.Pipeline(f"read '{clip}' ! python mine ! null")
    seen = []
    again.function("mine", lambda batch: seen.extend(batch.numbers)).run()
    assert seen == list(range(60))


def test_functions_take_frames_out(clip):
    for answer, kept in ((lambda batch: False, 0), (lambda batch: [frame.index % 3 == 0 for frame in batch], 20), (lambda batch: True, 60)):
        drop = fr.stage(batch=6)(lambda batch, answer=answer: answer(batch))
        stats = fr.Pipeline(f"read '{clip}' ! null").insert_after("read", drop, name="drop").run()
        assert stats["stages"][-1]["frames_in"] == kept and stage_of(stats, "drop")["counters"]["frames_dropped"] == 60 - kept
    for answer, words in ((lambda batch: 7, "returned 7"), (lambda batch: [True], "1 booleans for 4 frames")):
        wrong = fr.stage(batch=4)(lambda batch, answer=answer: answer(batch))
        with pytest.raises(ValueError, match=words):
            fr.Pipeline(f"read '{clip}' ! null").insert_after("read", wrong).run()


def test_what_is_written_into_planes_travels_on(clip, tmp_path):
    out = tmp_path / "out.mkv"
    kept, before = [], []

    def paint(batch):
        (frame,) = batch
        looked = np.asarray(frame.planes()[0])
        assert not looked.flags.writeable
        before.append(number_of(looked[None]))
        luma, *_ = (np.asarray(plane) for plane in frame.planes(writable=True))
        assert number_of(luma[None]) == frame.index
        luma[:16, :64] = 16
        luma[:8, :8] = 235
        assert number_of(np.asarray(frame.planes()[0])[None]) == 1, "later looks see what was written"
        assert number_of(looked[None]) == frame.index, "earlier looks do not"
        kept.append((frame, luma))

    def spoil(batch):
        # Written too late: what the earlier function kept is no longer what travels.
        kept[batch[0].index][1][:16, :64] = 16

    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! write '{out}' crf=10").insert_after("read", paint).insert_after("paint", spoil)
    stats = pipeline.run()
    (copies,) = stage_of(stats, "paint")["copies"]
    assert copies["kind"] == "host" and copies["bytes"] >= 60 * WIDTH * HEIGHT * 3 // 2
    with fr.VideoReader(out, output="numpy") as reader:
        assert numbers_of(reader[:]) == [1] * 60
    assert before == list(range(60))
    with pytest.raises(RuntimeError, match="has been passed on"):
        kept[0][0].planes()
    assert kept[5][0].index == 5


def test_callbacks_do_not_write(clip):
    pipeline = fr.Pipeline(f"read '{clip}' ! null").on("read", lambda batch: batch[0].planes(writable=True))
    with pytest.raises(ValueError, match="insert_after"):
        pipeline.run()


def test_attributes_and_attachments_travel(clip):
    class Marks:
        def __init__(self, value):
            self.value, self.calls = value, []

        def start(self):
            self.calls.append("start")

        def finish(self):
            self.calls.append("finish")

        def __call__(self, batch):
            (frame,) = batch
            part = fr.Detection((1, 1, 2, 2), 0.25, "eye")
            mask = fr.InstanceMask((0, 0, 8, 4), np.array([[0.0, 1.0]]))
            frame.detections = [
                fr.Detection(
                    (0, 0, 8, 4),
                    attributes=[
                        fr.Attribute("a", classes=[("happy", 0.75), ("sad", 0.25, 3)]),
                        fr.Attribute("b", landmarks=[(1, 2)]),
                        fr.Attribute("c", mask=mask),
                        fr.Attribute("d", embedding=np.arange(3)),
                        fr.Attribute("e", parts=[part]),
                    ],
                )
            ]
            frame.detections[0].attributes.append(fr.Attribute("f", landmarks=[]))
            depth = fr.DenseMap((0, 0, 8, 4), np.array([[1.0, 2.0]]), "metres")
            flow = fr.DenseMap((0, 0, 8, 4), np.array([[[1.0, -2.0], [0.5, 0.0]]]))
            frame.attributes = [
                fr.Attribute("scene", classes=[("yard", 0.5)]),
                fr.Attribute("far", depth=depth),
                fr.Attribute("moves", flow=flow),
            ]
            frame.attachments["value"] = self.value

    marks, seen = Marks({"k": 1}), []

    def look(batch):
        (frame,) = batch
        (one,) = frame.detections
        seen.append(frame.attachments["value"])
        scene, far, moves = frame.attributes
        assert (scene.model, scene.classes) == ("scene", [("yard", 0.5, 0)])
        assert (far.kind, far.depth.values.tolist(), far.depth.unit, far.flow) == ("depth", [[1, 2]], "metres", None)
        assert (moves.kind, moves.flow.values.tolist(), moves.flow.unit) == ("flow", [[[1, -2], [0.5, 0]]], None)
        assert far.depth.bbox_xyxy == (0, 0, 8, 4) and "1 x 2 cells" in repr(far.depth)
        for dense in (far.depth, moves.flow):
            assert pickle.loads(pickle.dumps(dense)) == dense
        assert far.depth != moves.flow
        values = {attribute.model: attribute for attribute in one.attributes}
        assert values["a"].classes == [("happy", 0.75, 0), ("sad", 0.25, 3)] and values["b"].landmarks == [(1, 2)]
        assert values["c"].mask.coverage.tolist() == [[0, 255]] and values["d"].embedding.tolist() == [0, 1, 2]
        assert values["e"].parts[0].label == "eye" and list(values) == list("abcdef")
        assert values["a"].kind == "classes" and values["a"].mask is None and "classes" in repr(values["a"])

    fr.Pipeline(f"read '{clip}' ! sample count=3 every=1 ! null").insert_after("sample", marks).on("Marks", look).run()
    assert seen == [{"k": 1}] * 3 and seen[0] is marks.value and marks.calls == ["start", "finish"]
    for wrong in ({}, {"landmarks": [], "parts": []}, {"classes": []}, {"embedding": [[1.0]]}):
        with pytest.raises(ValueError):
            fr.Attribute("m", **wrong)
    with pytest.raises(TypeError, match="give a list of framerail.Detection"):
        fr.Attribute("m", parts=[5])
    with pytest.raises(ValueError):
        fr.InstanceMask((0, 0, 0, 1), [[1.0]])
    for values, unit in (([1.0], "metres"), ([[[1.0, 2.0, 3.0]]], "metres"), ([[float("nan")]], "metres"), ([[1.0]], "feet"), ([[]], "metres")):
        with pytest.raises(ValueError):
            fr.DenseMap((0, 0, 1, 1), np.array(values), unit)
    with pytest.raises(ValueError, match="flow two"):
        fr.Attribute("m", flow=fr.DenseMap((0, 0, 1, 1), np.ones((2, 2))))

    def wrong_detections(batch):
        batch[0].detections = [3]

    def wrong_attributes(batch):
        batch[0].attributes = "none"

    with pytest.raises(TypeError, match="'attributes' holds a str"):
        fr.Pipeline(f"read '{clip}' ! null").insert_after("read", wrong_attributes).run()
    with pytest.raises(TypeError, match="'detections' holds a int"):
        fr.Pipeline(f"read '{clip}' ! null").insert_after("read", wrong_detections).run()


def test_items_are_pickled_and_compared(clip):
    seen = []
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    pipeline.on("read", seen.extend)
    pipeline.run()
    item, other = seen[12], seen[13]
    item.detections = [fr.Detection((1, 2, 3, 4), 0.5, "face")]
    item.attachments["speed"] = 3.5
    for same in (pickle.loads(pickle.dumps(item)), copy.copy(item), copy.deepcopy(item)):
        assert same == item and same != other and same.attachments == {"speed": 3.5} and same.pixel_format == "yuv420p"
        assert repr(same) == repr(item) == "FrameItem(index=12, seconds=0.480, 128x96 yuv420p on cpu, 1 detections)"
        with pytest.raises(RuntimeError, match="was pickled"):
            same.rgb()
    same.detections = []
    assert same != item and repr(fr.ItemBatch([item, other])) == "ItemBatch(2 frames from 12, 128x96)"


def test_functions_change_frames_as_rgb_and_hsv(clip, tmp_path):
    kept = []

    @fr.stage
    def redder(batch):
        for frame in batch:
            pixels = np.asarray(frame.rgb(writable=True))
            assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
            pixels[:, :, 0], pixels[:, :, 1:] = 200, 30
            # The same memory until the function returns.
            assert np.asarray(frame.rgb(writable=True))[0, 0].tolist() == [200, 30, 30]
            with pytest.raises(ValueError, match="not two of them"):
                frame.hsv()
            kept.append(pixels)

    @fr.stage(on="cpu")
    def greener(batch):
        for frame in batch:
            pixels = np.asarray(frame.hsv())
            assert abs(int(pixels[0, 0, 0])) <= 2 and pixels[0, 0, 1] > 200
            pixels[:, :, 0] = 60

    seen = []

    @fr.stage
    def look(batch):
        seen.extend(np.asarray(frame.rgb())[HEIGHT // 2, WIDTH // 2].tolist() for frame in batch)

    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    pipeline.insert_after("read", redder)
    pipeline.insert_after("redder", greener)
    pipeline.insert_after("greener", look)
    pipeline.run()
    assert len(seen) == 60 and all(np.abs(np.subtract(rgb, (30, 200, 30))).max() <= 8 for rgb in seen), seen[:3]
    # What a function keeps does not change what has travelled on.
    assert kept[0][0, 0].tolist() == [200, 30, 30]

    def callback(batch):
        batch[0].rgb(writable=True)

    with pytest.raises(ValueError, match="callbacks cannot change pixels"):
        fr.Pipeline(f"read '{clip}' ! null").on("read", callback).run()


def test_live_frames_are_an_iterator_of_tensors(clip):
    preprocess = fr.Preprocess(size=(48, 64), layout="THWC", dtype="uint8", normalize=None)
    with fr.live(clip, preprocess, batch=4, drop="none", output="numpy", device="cpu") as frames:
        batches = list(frames)
    assert [len(batch) for batch in batches] == [4] * 15 and batches[0].data.shape == (4, 48, 64, 3)
    assert [number for batch in batches for number in batch.numbers] == list(range(60)) and frames.dropped == 0
    assert frames.stats is not None and batches[1].seconds[0] == pytest.approx(0.16) and batches[0].streams == [0] * 4

    # A program that is slower than the stream gets the newest frames.
    with fr.live([clip, clip], preprocess, output="numpy", device="cpu", read={"loop": "yes"}) as frames:
        seen = [next(frames) for _ in range(20)]
        assert {stream for batch in seen for stream in batch.streams} == {0, 1}
    assert next(frames, None) is None

    with pytest.raises(fr.PipelineError, match="no such file"), fr.live("missing.mp4", device="cpu") as frames:
        next(frames)
    with pytest.raises(ValueError, match="'sources'"):
        fr.live([])


def test_stage_functions_make_tensors(clip):
    @fr.stage(batch=4, on="cpu", pixels=True)
    def model(batch):
        pictures = batch.tensor(fr.Preprocess(size=(96, 96), fit="letterbox", pad=0, layout="THWC"), output="numpy")
        assert pictures.shape == (4, 96, 96, 3) and pictures.dtype == np.float32
        assert batch.to_frame([0, 12, 96, 84]).tolist() == [0, 0, WIDTH, HEIGHT]
        with pytest.raises(ValueError, match="places"):
            batch.to_frame([1, 2, 3])

    fr.Pipeline(f"read '{clip}' ! null").insert_after("read", model).run()
    with pytest.raises(ValueError, match="batch.tensor"):
        fr.ItemBatch([]).to_frame([1, 2])


def test_pipelines_run_again_and_stop(long_clip):
    model, pipeline = BoxModel(), fr.Pipeline(f"read '{long_clip}' device=cpu ! sample count=20 every=1 ! torch m batch=8 ! null")
    pipeline.model("m", model, preprocess=fr.Preprocess(size=SIZE, fit="letterbox"), arrays="numpy")
    assert pipeline.run()["stages"][-1]["frames_in"] == pipeline.run()["stages"][-1]["frames_in"] == 20
    assert model.sizes == [8, 8, 4] * 2
    stopped = fr.Pipeline(f"read '{long_clip}' device=cpu ! null")
    stopped.insert_after("read", lambda batch: stopped.stop() if batch[0].index == 20 else None)
    assert 20 <= stopped.run()["stages"][-1]["frames_in"] < 600


def test_a_model_looks_at_the_parts_of_frames(clip):
    boxes = [(0, 0, 8, 8), (64, 48, 104, 88)]

    def detect(batch):
        for frame in batch:
            frame.detections = [fr.Detection(box, label="thing") for box in boxes]

    def brightness(pictures):
        assert pictures.shape[1:] == (3, 16, 16)
        mean = pictures.mean(axis=(1, 2, 3))
        return np.stack([mean, 1 - mean], axis=1)

    def inside(outputs, batch):
        assert [area == pytest.approx(boxes[place % 2]) for place, area in enumerate(batch.areas)] == [True] * len(batch)
        return [[fr.Detection(tuple(batch.to_frame([4, 4, 8, 8], place)), 0.5, "part")] for place in range(len(batch))]

    for postprocess in ("classes", inside):
        pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! sample count=4 every=1 ! python detect ! crop ! torch m batch=8 ! null")
        pipeline.function("detect", detect)
        options = dict(preprocess=fr.Preprocess(size=16), labels=["light", "dark"], arrays="numpy")
        pipeline.model("m", brightness, postprocess=postprocess, **options)
        found = collected(pipeline, "m")
        counters = stage_of(pipeline.run(), "torch")["counters"]
        assert (counters["parts_analysed"], counters["frames_analysed"], counters["calls"]) == (8, 0, 1)
        for index, detections in found:
            assert [one.bbox_xyxy for one in detections] == boxes and [one.label for one in detections] == ["thing"] * 2
            (first,), (second,) = (one.attributes for one in detections)
            if postprocess == "classes":
                # The first block is the lowest bit of the frame's number.
                assert (first.model, first.classes[0][0]) == ("m", "light" if index % 2 else "dark") and len(second.classes) == 2
            else:
                (part,) = second.parts
                assert part.bbox_xyxy == pytest.approx((74, 58, 84, 68), abs=1e-3) and first.parts[0].label == "part"
    tiles = fr.Pipeline(f"read '{clip}' device=cpu ! sample count=2 every=1 ! tiles 64x64 overlap=0 whole=no ! torch m batch=8 ! null")
    one = {"boxes": np.array([[0.0, 0, 16, 16]]), "scores": np.ones(1), "labels": np.zeros(1, int)}
    tiles.model("m", lambda pictures: [one] * len(pictures), preprocess=fr.Preprocess(size=16), arrays="numpy")
    found = collected(tiles, "m")
    tiles.run()
    # Four tiles; those one above the other overlap, and what is found in them is brought together.
    assert [[one.bbox_xyxy for one in detections] for _, detections in found] == [[(0, 0, 64, 96), (64, 0, 128, 96)]] * 2


def test_the_example_with_functions_runs(clip, tmp_path, capsys):
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    example = runpy.run_path(str(Path(sources) / "examples" / "python" / "stage_functions.py"))
    example["main"](clip, tmp_path / "out.mp4")
    assert capsys.readouterr().out.strip() == "60 frames, 1 of them without motion"
    with fr.VideoReader(tmp_path / "out.mp4", output="numpy") as reader:
        assert len(reader) == 59


def detected(clip, function):
    """Calls a function in a pipeline with frames that carry two detections each."""

    def detect(batch):
        mask = fr.InstanceMask((0, 0, 64, 48), [[0, 255]])
        attributes = [fr.Attribute("m", mask=mask)]
        batch[0].detections = [
            fr.Detection((0, 0, 64, 48), 0.5, "cat", label_id=3, track_id=7, attributes=attributes),
            fr.Detection((1, 2, 3, 4), 0.25, "dog", label_id=4, track_id=8, attributes=attributes),
        ]

    pipeline = fr.Pipeline(f"read '{clip}' ! sample count=2 every=1 ! null")
    pipeline.insert_after("sample", detect).insert_after("detect", function, name="last").run()


def test_detections_for_supervision(clip):
    supervision = pytest.importorskip("supervision")
    seen = []
    detected(clip, lambda batch: seen.append(fr.to_supervision(batch[0])))
    one = seen[0]
    assert isinstance(one, supervision.Detections) and one.xyxy.tolist() == [[0, 0, 64, 48], [1, 2, 3, 4]]
    assert one.class_id.tolist() == [3, 4] and one.tracker_id.tolist() == [7, 8] and one["class_name"].tolist() == ["cat", "dog"]
    assert one.mask.shape == (2, HEIGHT, WIDTH) and one.mask[0].sum() == 32 * 48 and one.mask[0, :48, 32:64].all()


def test_detections_for_pandas(clip, tmp_path):
    pandas = pytest.importorskip("pandas")
    seen = []
    detected(clip, lambda batch: seen.append(batch.to_pandas()))
    table = pandas.concat(seen)
    assert fr.to_pandas([]).dtypes.equals(table.dtypes)
    assert table["label"].tolist() == ["cat", "dog"] * 2 and table["frame"].tolist() == [0, 0, 1, 1]
    assert table["track_id"].tolist() == [7, 8] * 2 and table["x2"].tolist() == [64, 3] * 2

    def detect(batch):
        batch[0].detections = [fr.Detection((1, 2, 3, 4), 0.25, "dog", label_id=4)]

    jsonl, parquet = tmp_path / "boxes.jsonl", tmp_path / "boxes.parquet"
    text = f"read '{clip}' ! sample count=3 every=1 ! tee ( save '{jsonl}' ) ! save '{parquet}'"
    fr.Pipeline(text).insert_after("sample", detect).run()
    lines = pandas.read_json(jsonl, lines=True)
    assert [found[0]["label"] for found in lines["detections"].dropna()] == ["dog"] * 3
    pytest.importorskip("pyarrow")
    table = pandas.read_parquet(parquet)
    assert table[["x1", "y1", "x2", "y2"]].values.tolist() == [[1, 2, 3, 4]] * 3 and table["label"].tolist() == ["dog"] * 3


def test_what_is_found_beside_the_polygon_of_a_region_is_left_out(clip, tmp_path):
    zones = tmp_path / "yard.toml"
    zones.write_text("[[zone]]\nname = 'upper'\npoints = [[0, 0], [1, 0], [0, 1]]\n")
    rows = [[4, 4, 8, 8, 0.5, 0], [WIDTH - 8, HEIGHT - 8, WIDTH - 4, HEIGHT - 4, 0.5, 0]]
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! regions '{zones}' ! torch m ! null")
    pipeline.model("m", lambda pictures: np.tile(np.array([rows], np.float32), (len(pictures), 1, 1)), arrays="numpy")
    found = []
    stats = pipeline.on("m", lambda batch: found.append([one.bbox_xyxy for one in batch[0].detections])).run()
    assert found == [[(4, 4, 8, 8)]] * 60
    assert stage_of(stats, "torch")["counters"]["detections_outside"] == 60
