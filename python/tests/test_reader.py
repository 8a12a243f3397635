import array
import copy
import io
import os
import pickle
import subprocess
from fractions import Fraction

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, decode_with_ffmpeg, make_clip, number_of, numbers_of

MODES = ["auto", "seek", "stream"]


@pytest.fixture
def reader(clip):
    with fr.VideoReader(clip, output="numpy") as reader:
        yield reader


def test_metadata_says_what_the_file_is(reader):
    metadata = reader.metadata
    assert (metadata.width, metadata.height, metadata.num_frames, len(reader)) == (WIDTH, HEIGHT, 60, 60)
    assert metadata.codec == "h264" and metadata.pixel_format == "yuv420p"
    assert metadata.frame_rate == 25 and metadata.average_fps == 25.0
    assert metadata.duration_seconds == pytest.approx(2.4)
    assert metadata.device == "cpu" and metadata.fallback is None
    assert "60 frames" in repr(reader)


@pytest.mark.parametrize("mode", MODES)
def test_frames_come_in_the_order_asked_with_duplicates(clip, mode):
    with fr.VideoReader(clip, mode=mode, output="numpy") as reader:
        wanted = [50, 0, 3, 3, 59, 12, 11]
        batch = reader.read(wanted)
        assert numbers_of(batch.data) == wanted
        assert batch.numbers.tolist() == wanted
        np.testing.assert_allclose(batch.seconds, np.array(wanted) / 25)
        np.testing.assert_allclose(batch.durations, 1 / 25)
        assert batch.is_keyframe.tolist() == [number % 12 == 0 for number in wanted]
        assert batch.status.tolist() == ["ok"] * len(wanted)
        assert len(batch) == 7 and batch.pts_seconds is batch.seconds


def test_all_modes_give_the_same_pixels(clip):
    wanted = [7, 30, 31, 58]
    first, *others = [fr.VideoReader(clip, mode=mode, output="numpy").read_frames(wanted) for mode in MODES]
    assert all((first == other).all() for other in others)


def test_indexes_and_slices(reader):
    assert reader[0].shape == (3, HEIGHT, WIDTH) and number_of(reader[5]) == 5
    assert number_of(reader[-1]) == 59 and number_of(reader[np.int64(7)]) == 7
    assert numbers_of(reader[10:50:8]) == [10, 18, 26, 34, 42]
    assert numbers_of(reader[-3:]) == [57, 58, 59]
    assert numbers_of(reader[5:2:-1]) == [5, 4, 3]
    assert numbers_of(reader[[4, -1]]) == [4, 59]
    assert numbers_of(reader[np.array([4, 2])]) == [4, 2]
    assert reader[8:8].shape == (0, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("key", [60, -61, 10**9, 10**30, -(10**30)])
def test_numbers_out_of_range_are_index_errors(reader, key):
    with pytest.raises(IndexError, match="60"):
        reader[key]


def test_numbers_must_be_whole(reader):
    with pytest.raises(TypeError, match="whole numbers, .* not 1.5"):
        reader.read_frames([1, 1.5])
    for unordered in ({3, 1}, {3: 1}):
        with pytest.raises(TypeError, match="give a list"):
            reader.read_frames(unordered)


def test_times_find_the_frame_on_screen(reader):
    assert reader.numbers_at([0.0, 0.039, 0.04, 2.39]) == [0, 0, 1, 59]
    assert numbers_of(reader.read_frames_at([1.2, 0.5])) == [30, 12]
    assert number_of(reader.read_frames_at(1.0)) == 25
    with pytest.raises(IndexError):
        reader.read_frames_at([100.0])
    with pytest.raises(IndexError):
        reader.read_frames_at([-0.5])
    times = reader.times
    assert len(times) == 60 and times.seconds[10] == pytest.approx(0.4) and times.is_keyframe.sum() == 5


def test_iteration_gives_every_frame(reader):
    assert [number_of(frame) for frame in reader] == list(range(60))


def test_batches_choose_frames(reader):
    def numbers(*args, **options):
        with reader.batches(*args, **options) as batches:
            return [batch.numbers.tolist() for batch in batches]

    assert [len(batch) for batch in numbers(16)] == [16, 16, 16, 12]
    assert [len(batch) for batch in numbers(16, drop_last=True)] == [16, 16, 16]
    assert numbers(4, start=10, stop=31, every=5) == [[10, 15, 20, 25], [30]]
    assert numbers(10, start=-3) == [[57, 58, 59]]
    assert numbers(2, numbers=[9, 1, -1]) == [[9, 1], [59]]
    assert numbers(100, fps=5) == [[0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55]]
    assert numbers(100, fps=5, start_seconds=1.0, end_seconds=1.5) == [[25, 30, 35]]
    assert len(reader.batches(16)) == 4


def test_batches_carry_the_right_frames_and_their_own_options(reader):
    for batch in reader.batches(7, every=3, dtype="float32", layout="THWC"):
        assert batch.data.dtype == np.float32 and batch.data.shape[1:] == (HEIGHT, WIDTH, 3)
        assert numbers_of(batch.data, "THWC") == batch.numbers.tolist()
    assert reader[0].dtype == np.uint8


def test_contradicting_selections_are_refused(reader):
    with pytest.raises(ValueError, match="use one"):
        reader.batches(4, numbers=[1], every=2)
    with pytest.raises(ValueError, match="by time"):
        reader.batches(4, numbers=[1], start_seconds=1.0)
    with pytest.raises(TypeError, match="did you mean 'layout'"):
        reader.batches(4, layuot="TCHW")


def test_memory_that_is_held_is_not_written_again(reader):
    held = [batch.data for batch in reader.batches(5)]
    again = [reader.read_frames(range(at, at + 5)) for at in range(0, 60, 5)]
    for first, second in zip(held, again):
        assert (first == second).all() and not np.shares_memory(first, second)


def test_memory_is_recycled_when_it_is_dropped(reader):
    addresses = set()
    for _ in range(10):
        frames = reader.read_frames([1, 2, 3])
        addresses.add(frames.ctypes.data)
        del frames
    assert len(addresses) < 10


def test_sources_of_every_kind_give_the_same(clip, reader):
    expected = reader.read_frames([3, 40])
    whole_file = clip.read_bytes()
    buffers = (memoryview(whole_file), bytearray(whole_file), array.array("B", whole_file), np.frombuffer(whole_file, np.uint8))
    for source in (str(clip), clip, whole_file, *buffers, io.BytesIO(whole_file)):
        with fr.VideoReader(source, output="numpy") as other:
            assert (other.read_frames([3, 40]) == expected).all(), type(source)
    with open(clip, "rb") as file, fr.VideoReader(file, output="numpy") as other:
        assert (other.read_frames([3, 40]) == expected).all()


def test_what_a_file_object_raises_is_the_cause(clip):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise RuntimeError("the cable is out")

    with pytest.raises((OSError, fr.DecodeError), match="cable") as caught:
        fr.VideoReader(Broken(clip.read_bytes()))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda part: np.frombuffer(part, np.uint8)])
def test_file_objects_may_give_any_buffer(clip, kind):
    class Other(io.BytesIO):
        def read(self, size=-1):
            return kind(super().read(size))

    assert numbers_of(fr.VideoReader(Other(clip.read_bytes()), output="numpy").read_frames([3, 40])) == [3, 40]


@pytest.mark.parametrize(
    "read, words",
    [
        (lambda self, size: bytes(size + 1), "asked for"),
        (lambda self, size: "text", "not str; open the file with mode 'rb'"),
        (lambda self, size: None, "not NoneType"),
    ],
)
def test_file_objects_that_give_something_else_are_refused(clip, read, words):
    wrong = type("Wrong", (io.BytesIO,), {"read": read})(clip.read_bytes())
    with pytest.raises(OSError, match=words) as caught:
        fr.VideoReader(wrong)
    assert isinstance(caught.value.__cause__, (TypeError, ValueError))


def test_wrong_sources_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.mp4"):
        fr.VideoReader(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(fr.DecodeError) as caught:
        fr.VideoReader(tmp_path / "text.mp4")
    assert caught.value.source.endswith("text.mp4")
    with pytest.raises(TypeError, match="source"):
        fr.VideoReader(7)
    with pytest.raises(fr.DecodeError):
        fr.VideoReader(b"no video either")


def test_a_folder_of_images(tmp_path, clip):
    import subprocess

    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", "9", str(tmp_path / "%03d.png")], check=True)
    with fr.VideoReader(tmp_path, output="numpy") as reader:
        assert numbers_of(reader[:]) == list(range(9))
        assert numbers_of(reader.read_frames([8, 0])) == [8, 0]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"mode": "fast"}, "option 'mode': 'fast'; use 'auto', 'seek' or 'stream'"),
        ({"layout": "CHW"}, "option 'layout'"),
        ({"dtype": "int8"}, "option 'dtype'"),
        ({"size": (0, 5)}, "option 'size'"),
        ({"size": "big"}, "option 'size'"),
        ({"crop": (0, 0, 0, 5)}, "option 'crop'"),
        ({"resize": "fit"}, "option 'resize'"),
        ({"channels": "cmyk"}, "option 'channels'"),
        ({"device": "gpu"}, "option 'device'"),
        ({"normalize": fr.IMAGENET, "dtype": "uint8"}, "option 'normalize'"),
        ({"exact": "swscale", "size": (8, 8)}, "exact='swscale'"),
        ({"timeout": -1}, "option 'timeout'"),
        ({"queue": 0}, "option 'queue'"),
        ({"memory": 0}, "option 'memory'"),
        ({"threads": -1}, "option 'threads'"),
        ({"index": "guess"}, "option 'index'"),
        ({"output": "jax"}, "option 'output'"),
        ({"stream": 7}, "option 'stream'"),
        ({"format": "mp5"}, "option 'format': 'mp5'"),
        ({"pad": 300}, "option 'pad': 300; use a whole number from 0 to 255"),
        ({"size": True}, "option 'size': True"),
        ({"threads": True}, "option 'threads': True"),
        ({"crop": (0, 0, True, 5)}, "option 'crop': True"),
        ({"antialias": "no"}, "option 'antialias': 'no'; use True or False"),
        ({"insecure": "no"}, "option 'insecure': 'no'; use True or False"),
    ],
)
def test_bad_values_name_option_value_and_what_is_allowed(clip, options, words):
    with pytest.raises(ValueError) as caught:
        fr.VideoReader(clip, **options)
    assert words in str(caught.value)


def test_defaults_are_written_once_each():
    import inspect

    from framerail.options import READER_DEFAULTS

    parameters = inspect.signature(fr.VideoReader).parameters
    assert {name: parameter.default for name, parameter in parameters.items() if name != "source"} == READER_DEFAULTS


def test_unknown_options_are_type_errors(clip):
    with pytest.raises(TypeError, match="devise"):
        fr.VideoReader(clip, devise="cpu")


def test_a_missing_gpu_is_reported(clip):
    try:
        fr.VideoReader(clip, device="cuda:97")
    except fr.CudaError as error:
        assert "CUDA" in str(error)
    else:
        pytest.fail("there is no such card")
    assert fr.VideoReader(clip, device="auto").metadata.num_frames == 60


def test_closing(clip):
    reader = fr.VideoReader(clip, output="numpy")
    frames = reader.read_frames([1])
    reader.close()
    reader.close()
    assert reader.closed and "closed" in repr(reader)
    assert number_of(frames[0]) == 1, "what was handed out stays"
    with pytest.raises(ValueError, match="closed"):
        reader[0]


def test_batches_live_on_without_their_reader(clip):
    batches = fr.VideoReader(clip, output="numpy").batches(20)
    assert [number for batch in batches for number in batch.numbers] == list(range(60))


def test_readers_and_batches_are_pickled(clip):
    reader = fr.VideoReader(clip, output="numpy", size=(48, 64), mode="seek")
    copy = pickle.loads(pickle.dumps(reader))
    assert (copy.read_frames([9]) == reader.read_frames([9])).all()
    # Made with options, which the copy has too.
    assert copy.read([9]).data.shape == (1, 3, 48, 64)
    batch = pickle.loads(pickle.dumps(reader.read([9])))
    assert batch.numbers.tolist() == [9]
    with pytest.raises(fr.DecodeError) as caught:
        raise pickle.loads(pickle.dumps(fr.DecodeError("words", "file", 3, 40)))
    assert (caught.value.source, caught.value.frame, caught.value.pts) == ("file", 3, 40)


def test_what_is_at_work_in_its_process_refuses_pickling_and_copying(clip, tmp_path):
    objects = [
        fr.Pipeline(f"read '{clip}' ! null"), fr.VideoReader(clip, output="numpy").batches(4), fr.VideoWriter(tmp_path / "out.mp4"),
        fr.AudioWriter(tmp_path / "out.wav", 48000), fr.FrameInput(),
    ]  # fmt: skip
    for held in objects:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"{type(held).__name__} cannot be pickled or copied"):
                call(held)


def test_the_index_is_kept_beside_the_file(tmp_path):
    path = make_clip(tmp_path / "kept.mkv", frames=20)
    with fr.VideoReader(path, index_cache="sidecar", output="numpy") as reader:
        assert len(reader) == 20 and reader.metadata.index_source != "cache"
    assert len(list(tmp_path.iterdir())) == 2
    with fr.VideoReader(path, index_cache="sidecar", output="numpy") as reader:
        assert numbers_of(reader.read_frames([19, 0])) == [19, 0]
        assert reader.metadata.index_source == "cache"
    folder = tmp_path / "folder"
    assert len(fr.VideoReader(path, index_cache=folder)) == 20
    assert len(list(folder.iterdir())) == 1


def test_streams_by_number(tmp_path, clip):
    import subprocess

    second = make_clip(tmp_path / "second.mp4", frames=10, first=500)
    both = tmp_path / "both.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(clip), "-i", str(second), "-map", "0", "-map", "1", "-c", "copy", str(both)], check=True
    )
    with fr.VideoReader(both, stream=1, output="numpy") as reader:
        assert numbers_of(reader[:3]) == [500, 501, 502]
    with fr.VideoReader(both, stream=0, output="numpy") as reader:
        assert numbers_of(reader[:3]) == [0, 1, 2]


def test_exact_equals_ffmpeg_bit_for_bit(clip):
    expected = decode_with_ffmpeg(clip)
    with fr.VideoReader(clip, exact="swscale", layout="THWC", output="numpy") as reader:
        assert (reader[:] == expected).all()
    with fr.VideoReader(clip, exact="swscale", channels="gray", layout="THWC", output="numpy") as reader:
        assert (reader[:] == decode_with_ffmpeg(clip, "gray", 1)).all()
    with fr.VideoReader(clip, exact="swscale", channels="bgr", output="numpy") as reader:
        assert (reader[::7].transpose(0, 2, 3, 1)[..., ::-1] == expected[::7]).all()
    with fr.VideoReader(clip, layout="THWC", output="numpy") as reader:
        difference = np.abs(reader[:].astype(int) - expected)
        assert difference.max() <= 3 and difference.mean() < 1.0


def test_raw_planes(clip):
    expected = decode_with_ffmpeg(clip, "gray", 1)[..., 0]
    with fr.VideoReader(clip, channels="yuv", output="numpy") as reader:
        batch = reader.read([4, 9])
        luma, blue, red = batch.split_planes()
        assert (
            batch.planes.format == "yuv420p"
            and luma.shape == (2, HEIGHT, WIDTH)
            and red.shape == blue.shape == (2, HEIGHT // 2, WIDTH // 2)
        )
        assert np.shares_memory(luma, batch.data)
        assert numbers_of(luma[:, None]) == [4, 9]
        # The command expands limited luma to full range.
        np.testing.assert_allclose((luma.astype(float) - 16) * 255 / 219, expected[[4, 9]], atol=1.0)
    with pytest.raises(ValueError, match="yuv"):
        fr.VideoReader(clip).read([0]).split_planes()


def test_masks_and_arrays_of_numbers_choose_as_numpy_does(reader):
    everything = reader[:]
    numbers = np.arange(60)
    for mask in (numbers == 40, numbers % 7 == 0, np.zeros(60, bool), list(numbers > 57)):
        np.testing.assert_array_equal(reader[mask], everything[np.array(mask)])
        np.testing.assert_array_equal(reader.read_frames(mask), everything[np.array(mask)])
    assert [batch.numbers.tolist() for batch in reader.batches(2, numbers=numbers % 20 == 1)] == [[1, 21], [41]]
    for index in (np.array([[3, -1], [7, 3]]), np.array([[5]], np.uint8), np.array(9), np.int16(-2)):
        np.testing.assert_array_equal(reader[index], everything[index])
    for mask in (np.ones(59, bool), np.ones(61, bool), [True], np.ones((60, 1), bool), True):
        with pytest.raises(IndexError, match="mask"):
            reader[mask]
    for index in (np.array([1.0]), [1, True], 2.5, [None]):
        with pytest.raises(TypeError, match="whole numbers"):
            reader[index]


class RepairedOnce:
    """A compiled reader whose index turns out to be another one during the first read."""

    def __init__(self, compiled, promised, real):
        self._compiled, self._count, self._real, self._version = compiled, promised, real, 1
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._compiled, name)

    def version(self):
        return self._version

    def num_frames(self):
        return self._count

    def read(self, numbers):
        if self._count != self._real:
            self._count, self._version = self._real, self._version + 1
        self.asked.append(numbers)
        if any(number >= self._count for number in numbers):
            raise IndexError("there are fewer")
        return self._compiled.read(numbers)


@pytest.mark.parametrize("promised", [55, 75])
def test_nothing_stale_is_left_after_an_index_is_repaired(clip, promised):
    for key, expected in ((-1, 59), (slice(-3, None), [57, 58, 59]), (slice(None, None, 20), [0, 20, 40])):
        with fr.VideoReader(clip, output="numpy") as reader:
            reader._compiled = RepairedOnce(reader._compiled, promised, 60)
            assert len(reader) == promised
            frames = reader[key]
            assert (number_of(frames) if isinstance(key, int) else numbers_of(frames)) == expected
            assert len(reader) == 60
    with fr.VideoReader(clip, output="numpy") as reader:
        reader._compiled = RepairedOnce(reader._compiled, promised, 60)
        assert number_of(reader[3]) == 3 and len(reader._compiled.asked) == 1, "what does not depend on the count is read once"
        with pytest.raises(IndexError):
            reader[70]


def test_the_header_stays_the_header(reader):
    before = reader.header
    assert before.num_frames is None and before.num_frames_header == 60 and before.stream_index == 0
    metadata = reader.metadata
    assert reader.header == before
    assert (metadata.num_frames, metadata.num_frames_header, metadata.bits_per_sample, metadata.index_source) == (60, 60, 8, "container")
    assert metadata.end_stream_seconds == pytest.approx(2.4) == metadata.start_seconds + metadata.duration_seconds
    assert (metadata.duration_seconds_header, metadata.frame_rate_header, metadata.start_seconds_header) == (pytest.approx(2.4), 25, 0.0)
    assert reader.device == "cpu"


@pytest.mark.parametrize("rate", ["25", "30000/1001", "24000/1001", "60", "15"])
def test_a_time_equal_to_the_end_is_outside(tmp_path, rate):
    with fr.VideoReader(make_clip(tmp_path / "a.mp4", frames=31, rate=rate), output="numpy") as reader:
        end = reader.metadata.end_stream_seconds
        assert reader.numbers_at([0.0, end - 1e-3]) == [0, 30]
        for outside in (end, end + 1e-9, end + 1.0, -1e-3, float(reader.times.seconds[-1] + reader.times.durations[-1])):
            with pytest.raises(IndexError):
                reader.numbers_at([outside])
        assert len(list(reader.batches(1, fps=eval(rate), end_seconds=end))) == 31


HDR = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:range=tv"


def test_colours_are_those_of_the_stream_where_the_container_states_none(tmp_path):
    clip = make_clip(tmp_path / "hdr.mp4", frames=3, options=("-x264-params", HDR, "-pix_fmt", "yuv420p10le", "-movflags", "-write_colr"))
    with fr.VideoReader(clip, output="numpy") as reader:
        color = reader.metadata.color
        assert (color["primaries"], color["transfer"], color["matrix"], color["range"]) == ("bt2020", "smpte2084", "bt2020nc", "limited")
        assert reader.metadata.bits_per_sample == 10
    with fr.VideoReader(make_clip(tmp_path / "plain.mp4", frames=3), output="numpy") as reader:
        assert set(reader.metadata.color) == {"matrix", "range", "primaries", "transfer", "chroma_location"}
        assert reader.metadata.color["primaries"] is None


def test_square_pixels_are_distinguished_from_unknown_ones(tmp_path):
    shapes = {}
    for name, value in (("square", "1"), ("wide", "4/3"), ("unknown", "0")):
        with fr.VideoReader(make_clip(tmp_path / f"{name}.mkv", frames=3, options=("-vf", f"setsar={value}")), output="numpy") as reader:
            shapes[name] = reader.metadata.sample_aspect_ratio
    assert shapes == {"square": 1, "wide": Fraction(4, 3), "unknown": None}


def test_an_approximate_index_gives_frames_with_their_own_times(tmp_path):
    # Frames that come later and later: the header's mean rate is right for none of them.
    options = ("-vf", "settb=1/1000,setpts=N*40+N*N*2", "-fps_mode", "passthrough", "-video_track_timescale", "90000")
    clip = make_clip(tmp_path / "late.mp4", frames=40, gop=10, options=options)
    with fr.VideoReader(clip, output="numpy") as exact, fr.VideoReader(clip, output="numpy", index="approximate") as reader:
        pts, seconds = exact.times.pts, exact.times.seconds
        grid = reader.times.seconds
        batch = reader.read(range(len(reader)))
        streamed = [(number_of(one.data[0]), int(one.pts[0])) for one in reader.batches(1)]
        for place, (number, at) in enumerate(zip(numbers_of(batch.data), batch.pts)):
            assert pts[number] == at and batch.seconds[place] == pytest.approx(seconds[number])
            if batch.status[place] == "ok":
                assert number == np.searchsorted(seconds, grid[place] + 2e-5, side="right") - 1
        assert streamed == list(zip(numbers_of(batch.data), batch.pts.tolist()))
        assert (batch.status == "ok").mean() > 0.9


def test_an_approximate_index_hands_out_nothing_that_an_edit_list_hides(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", frames=100, gop=50)
    cut = tmp_path / "cut.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-ss", "0.8", "-i", whole, "-c", "copy", cut], check=True)
    with fr.VideoReader(cut, output="numpy") as exact, fr.VideoReader(cut, output="numpy", index="approximate") as reader:
        shown = numbers_of(exact[:])
        assert shown[0] >= 20 and len(reader) == pytest.approx(len(shown), abs=2)
        for numbers in (range(len(reader)), [0], [1], [len(reader) // 2], range(5, 20)):
            batch = reader.read(numbers)
            for number, at in zip(numbers_of(batch.data), batch.pts):
                assert number in shown and exact.times.pts[shown.index(number)] == at
        assert number_of(reader[0]) == shown[0]


def test_normalize_may_be_switched_off(clip):
    assert fr.Preprocess(normalize=False).options == {**fr.Preprocess(normalize=None).options, "normalize": False}
    with fr.VideoReader(clip, output="numpy", normalize=False, dtype="float32") as reader:
        assert reader[0].max() > 100


def test_a_batch_is_a_sequence_of_frames(reader):
    batch = reader.read([3, 9, 12])
    frame = batch[-1]
    assert (frame.number, frame.pts, frame.is_keyframe, frame.status) == (12, int(batch.pts[2]), True, "ok")
    data, seconds, duration = frame
    assert number_of(data) == 12 and seconds == frame.pts_seconds == 0.48 and duration == pytest.approx(0.04)
    assert [one.number for one in batch] == [3, 9, 12] and [one.number for one in reversed(batch)] == [12, 9, 3]
    assert batch[1:].numbers.tolist() == [9, 12] == batch[[1, 2]].numbers.tolist() == batch[batch.seconds > 0.2].numbers.tolist()
    with pytest.raises(IndexError):
        batch[3]
    batch.numbers[0] = 7
    assert repr(batch) == "FrameBatch(ndarray[3, 3, 96, 128] uint8 on cpu, numbers=[7, 9, 12])"
    assert repr(frame).startswith("Frame(ndarray[3, 96, 128] uint8 on cpu, number=12, seconds=0.480")
    assert pickle.loads(pickle.dumps(batch)).numbers.tolist() == [7, 9, 12]


def test_one_number_gives_one_frame_with_its_time(reader, clip):
    frame = reader.read(12)
    assert isinstance(frame, fr.Frame) and (frame.number, frame.seconds) == (12, 0.48) and frame.data.shape == (3, 96, 128)
    assert reader.read(np.int64(-1)).number == 59 and reader.read_frames(12).shape == (3, 96, 128) == reader.read_frames_at(0.48).shape
    assert reader.numbers_at(0.5) == 12 and reader.numbers_at([0.5]) == [12] == reader.numbers_at(np.array([0.5]))
    out = np.zeros((3, 96, 128), np.uint8)
    assert np.shares_memory(reader.read(7, out=out).data, out) and number_of(out) == 7
    with fr.VideoReader(clip, output="dlpack") as lent:
        batch = lent.read([3, 9])
        assert lent[3].shape == (3, 96, 128) == batch[1].data.shape and [number_of(np.asarray(one)) for one in batch.data] == [3, 9]
        assert number_of(np.from_dlpack(batch[-1].data)) == 9 and next(iter(lent)).shape == (3, 96, 128)
        with pytest.raises(IndexError, match="entry 2 of 2"):
            batch.data[2]


def test_renamed_names_work_with_a_warning(reader):
    for old, call in (("frames_at", lambda: reader.frames_at([0.5])), ("read_at", lambda: reader.read_at([0.5]))):
        with pytest.warns(DeprecationWarning, match=old) as warned:
            call()
        assert warned[0].filename == __file__
    for old, new in (("Batch", fr.ItemBatch), ("Batches", fr.BatchIterator)):
        with pytest.warns(DeprecationWarning, match=old) as warned:
            assert getattr(fr, old) is new
        assert warned[0].filename == __file__
    with pytest.raises(AttributeError, match="did you mean 'VideoReader'"):
        fr.VideoRaeder  # noqa: B018


def test_reprs_show_shape_type_and_device(reader):
    assert repr(reader.times) == "FrameTimes(60 frames, 0.000 to 2.360 s)"
    assert repr(fr.sample_clips(reader, num_clips=2, frames_per_clip=4)).startswith("Clips(ndarray[2, 4, 3, 96, 128] uint8 on cpu, 2 clips")
    assert reader.device == "cpu" and repr(reader.times) and reader.times == reader.times


def test_detections_can_be_pickled_and_compared():
    def made():
        mask = fr.InstanceMask((1, 2, 9, 10), np.eye(4))
        part = fr.Detection((2, 2, 3, 3), 0.25, "eye")
        attributes = [
            fr.Attribute("m", mask=mask), fr.Attribute("p", parts=[part]), fr.Attribute("e", embedding=np.arange(3.0)),
            fr.Attribute("c", classes=[("a", 0.5, 1)]),
        ]  # fmt: skip
        landmarks = [(1.0, 2.0), (3.0, 4.0)]
        return fr.Detection((1, 2, 3, 4), 0.5, "face", label_id=2, landmarks=landmarks, track_id=7, origin="held", attributes=attributes)

    one = made()
    for same in (made(), pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert same == one and not same != one and same.attributes == one.attributes
    assert repr(pickle.loads(pickle.dumps(one.attributes[0].mask))) == repr(one.attributes[0].mask)
    other = made()
    other.score = 0.25
    assert other != one and one != "face" and one.attributes[0] != one.attributes[1]


def test_the_package_shows_what_is_public():
    assert set(dir(fr)) == {*fr.__all__, "__version__", "torch"}


def test_boxes_are_any_four_numbers():
    expected = fr.Detection((1.0, 2.0, 3.0, 4.0), 0.5, "face")
    assert fr.Detection([1, 2, 3, 4], 0.5, "face") == fr.Detection(np.array([1.0, 2, 3, 4]), np.float32(0.5), "face") == expected
    with pytest.raises(ValueError, match="3 numbers; give left, top, right and bottom"):
        fr.Detection([1, 2, 3])
    with pytest.raises(TypeError):
        fr.Detection(5)


@pytest.mark.parametrize(
    "source, error, words",
    [
        ("", FileNotFoundError, "empty path"),
        (io.StringIO("x"), TypeError, "mode 'rb'"),
        (os.fsencode(__file__), TypeError, "os.fsdecode"),
        (np.zeros((2, 2), np.uint8), TypeError, "one axis"),
        (np.zeros(2, np.float32), TypeError, "elements of 4 bytes"),
    ],
)
def test_sources_that_cannot_be_read_say_what_to_give(source, error, words):
    with pytest.raises(error, match=words):
        fr.VideoReader(source)


def test_normalising_gives_fractions_unless_a_type_is_given(clip):
    assert fr.VideoReader(clip, output="numpy")[0].dtype == np.uint8
    assert fr.VideoReader(clip, normalize=True, output="numpy")[0].dtype == np.float32
    assert fr.VideoReader(clip, normalize=True, dtype="float16", output="numpy")[0].dtype == np.float16
    with pytest.raises(ValueError, match="uint8 holds no fractions"):
        fr.VideoReader(clip, normalize=True, dtype="uint8")
    reader = fr.VideoReader(clip, output="numpy")
    assert next(reader.batches(1, normalize=fr.IMAGENET)).data.dtype == np.float32
    assert "batches to come" in repr(reader.batches(4))
    assert fr.VideoReader(clip, size=np.array([24, 32]), output="numpy")[0].shape == (3, 24, 32)
