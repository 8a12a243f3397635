"""On a card: the frames of the host, handed to PyTorch in the order of its streams.

Without a card these tests are skipped and the run says so; FRAMERAIL_REQUIRE_GPU=1 makes that a failure.
"""

import gc
import os

import pytest

torch = pytest.importorskip("torch")

import framerail as fr  # noqa: E402
from clips import HEIGHT, WIDTH, make_clip, number_of, numbers_of  # noqa: E402

REQUIRED = bool(os.environ.get("FRAMERAIL_REQUIRE_GPU"))
if not REQUIRED and not torch.cuda.is_available():
    pytest.skip("no CUDA card: framerail on CUDA was NOT tested", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("no_hang")
CARD = "cuda:0"


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Frames as large as an engine takes of every codec."""
    return make_clip(tmp_path_factory.mktemp("wide") / "wide.mp4", frames=240, gop=30, width=640, height=360)


def apart(left, right):
    return (left.cpu().float() - right.cpu().float()).abs()


@pytest.mark.parametrize("mode", ["seek", "stream", "auto"])
def test_frames_are_those_of_the_host(wide, mode):
    numbers = [0, 239, 50, 3, 50, 121, 120, 119]
    card = fr.VideoReader(wide, device=CARD, mode=mode)
    found = card.read_frames(numbers)
    expected = fr.VideoReader(wide, mode=mode).read_frames(numbers)
    assert found.device == torch.device(CARD) and found.is_contiguous() and found.shape == (8, 3, 360, 640)
    assert numbers_of(found.cpu()) == numbers
    assert apart(found, expected).max() <= 2 and apart(found, expected).mean() < 0.5
    assert card.metadata.device == CARD and card.metadata.fallback is None
    assert [int(number) for number in fr.VideoReader(wide, device=CARD, mode=mode).read(numbers).numbers] == numbers


@pytest.mark.parametrize("layout", ["TCHW", "THWC"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
def test_types_and_layouts(wide, layout, dtype):
    options = dict(layout=layout, dtype=dtype, size=(180, 320), normalize=fr.IMAGENET if dtype != "uint8" else None)
    found = fr.VideoReader(wide, device=CARD, **options).read_frames([7, 100])
    expected = fr.VideoReader(wide, **options).read_frames([7, 100])
    assert found.dtype == getattr(torch, dtype) and found.shape == expected.shape
    limit = 2 if dtype == "uint8" else 2 / 255 / min(fr.IMAGENET.std) + (0.02 if dtype == "bfloat16" else 0.005)
    assert apart(found, expected).max() <= limit


def test_batches_are_decoded_ahead(wide):
    reader = fr.VideoReader(wide, device=CARD)
    held = [batch.data for batch in reader.batches(32, every=3)]
    assert [number for batch in held for number in numbers_of(batch.cpu())] == list(range(0, 240, 3))
    assert sum(len(batch) for batch in held) == 80


def test_memory_that_is_held_is_never_written_again(wide):
    reader = fr.VideoReader(wide, device=CARD)
    held = {number: reader[number] for number in range(0, 240, 10)}
    for number in range(0, 240):
        reader.read_frames([number])
    assert {number: number_of(frame.cpu()) for number, frame in held.items()} == {number: number for number in held}


def test_dropped_memory_waits_for_the_caller_s_stream(wide):
    """A slow reader of the tensor on a stream of its own: the memory comes back only after it."""
    reader = fr.VideoReader(wide, device=CARD)
    stream = torch.cuda.Stream()
    expected = {number: reader.read_frames([number]).clone() for number in (10, 200)}
    for _ in range(20):
        with torch.cuda.stream(stream):
            frames = reader.read_frames([10])
            torch.cuda._sleep(20_000_000)
            copy = frames.clone()
            del frames
        # Wants memory of the same size at once.
        other = reader.read_frames([200])
        assert torch.equal(other, expected[200])
        stream.synchronize()
        assert torch.equal(copy, expected[10])


def test_handing_over_copies_nothing(wide):
    reader = fr.VideoReader(wide, device=CARD, output="dlpack")
    tensor = reader.read_frames([5, 6])
    first, second = torch.from_dlpack(tensor), torch.from_dlpack(tensor)
    assert first.data_ptr() == second.data_ptr() == tensor.address
    del tensor, second
    gc.collect()
    assert numbers_of(first.cpu()) == [5, 6]
    with pytest.raises(ValueError, match="NumPy cannot hold"):
        fr.VideoReader(wide, device=CARD, output="numpy").read_frames([0])


def test_out_writes_into_the_caller_s_tensor(wide):
    reader = fr.VideoReader(wide, device=CARD)
    out = torch.zeros((3, 3, 360, 640), dtype=torch.uint8, device=CARD)
    with torch.cuda.stream(torch.cuda.Stream()):
        batch = reader.read([9, 8, 7], out=out)
        assert batch.data.data_ptr() == out.data_ptr()
        assert numbers_of(out.cpu()) == [9, 8, 7]
    with pytest.raises(ValueError, match="out"):
        reader.read([1], out=torch.zeros((1, 3, 360, 640), dtype=torch.uint8))


def test_several_threads_get_their_frames(wide):
    from concurrent.futures import ThreadPoolExecutor

    reader = fr.VideoReader(wide, device=CARD)
    with ThreadPoolExecutor(8) as pool:
        asked = [(7 * turn) % 240 for turn in range(64)]
        assert list(pool.map(lambda number: number_of(reader[number].cpu()), asked)) == asked


def test_no_growth_over_many_files(wide):
    def used():
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free

    def once():
        with fr.VideoReader(wide, device=CARD) as reader:
            assert number_of(reader[17].cpu()) == 17

    for _ in range(20):
        once()
    before, handles = used(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        once()
    gc.collect()
    assert used() - before < 64 << 20
    assert len(os.listdir("/proc/self/fd")) <= handles + 4


def test_what_the_card_does_not_decode_comes_from_the_host_with_its_reason(tmp_path):
    clip = make_clip(tmp_path / "422.mp4", frames=12, width=640, height=360, options=("-pix_fmt", "yuv422p"))
    reader = fr.VideoReader(clip, device=CARD)
    found = reader.read_frames([3, 11])
    assert found.device == torch.device(CARD) and numbers_of(found.cpu()) == [3, 11]
    assert "4:2:2" in reader.metadata.fallback


def test_augmentation_is_that_of_the_host(wide):
    augment = fr.Augment(
        crop=fr.RandomResizedCrop(), size=(112, 112), flip_horizontal=0.5, color_jitter=fr.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        blur=fr.RandomBlur(kernel=5), normalize=fr.IMAGENET, dtype="float32",
    )  # fmt: skip
    frames = fr.VideoReader(wide, device=CARD).read_frames(range(0, 64, 8))
    found, expected = augment(frames, seed=3), augment(frames.cpu(), seed=3)
    assert found.device == torch.device(CARD) and found.shape == (8, 3, 112, 112)
    assert apart(found, expected).max() < 1e-3


def test_a_pipeline_runs_on_the_gpu(wide, tmp_path):
    numbers = []
    pipeline = fr.Pipeline(f"read {wide} device=cuda ! null")
    pipeline.on("read", lambda items: numbers.extend(item.index for item in items))
    pipeline.run()
    assert numbers == list(range(240))


def test_small_frames_too(clip):
    """What is below the card's least size is decoded on the host, and says so."""
    reader = fr.VideoReader(clip, device=CARD)
    found = reader.read_frames([59, 0])
    assert numbers_of(found.cpu()) == [59, 0] and found.shape == (2, 3, HEIGHT, WIDTH)


class Means(torch.nn.Module):
    """A box, a score and a class that follow from the pictures' means; what it saw is noted."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([10.0, 20.0, 60.0, 70.0]))
        self.seen = []

    def forward(self, pictures):
        self.seen.append((pictures.device, torch.cuda.current_stream() == torch.cuda.default_stream() if pictures.is_cuda else True))
        means = pictures.float().mean(dim=(1, 2, 3))
        # Work that takes a while: who reads the results too early sees it.
        if pictures.is_cuda:
            torch.cuda._sleep(2_000_000)
        boxes = self.weight + 40 * means[:, None]
        return torch.cat([boxes, means[:, None], torch.ones_like(means)[:, None]], dim=1)[:, None]


def run_means(clip, device, **options):
    model, found = Means(), []
    pipeline = fr.Pipeline(f"read '{clip}' ! torch m batch=16 ! null", device=device)
    pipeline.model("m", model, preprocess=fr.Preprocess(size=(128, 128), fit="letterbox"), **options)
    pipeline.on("m", lambda items: found.append((items[0].index, items[0].detections)))
    return model, found, pipeline.run()


def test_the_torch_stage_finds_what_it_finds_on_the_host_and_frames_stay_on_the_gpu(wide):
    model, found, stats = run_means(wide, "cuda")
    _, expected, _ = run_means(wide, "cpu")
    assert model.weight.is_cuda and set(model.seen) == {(torch.device(CARD), False)} and len(model.seen) == 15
    assert [index for index, _ in found] == [index for index, _ in expected] == list(range(240))
    for (_, (one,)), (_, (other,)) in zip(found, expected):
        assert one.bbox_xyxy == pytest.approx(other.bbox_xyxy, abs=1.0) and one.score == pytest.approx(other.score, abs=0.01)
    kinds = {copy["kind"] for stage in stats["stages"] for copy in stage["copies"]}
    assert kinds <= {"device", "upload"}, "packets may be uploaded; no picture comes to the host"
    assert sum(copy["bytes"] for stage in stats["stages"] for copy in stage["copies"] if copy["kind"] == "upload") < 240 * 640 * 360


def test_a_functions_own_reading_of_results_waits_for_its_batch(wide):
    def decode(outputs, batch):
        assert outputs.is_cuda and torch.cuda.current_stream() != torch.cuda.default_stream()
        rows = batch.to_frame(outputs[:, 0, :4]).cpu()
        return [[fr.Detection(tuple(row.tolist()), float(score))] for row, score in zip(rows, outputs[:, 0, 4].cpu())]

    _, found, _ = run_means(wide, "cuda", postprocess=decode)
    _, expected, _ = run_means(wide, "cuda")
    for (_, (one,)), (_, (other,)) in zip(found, expected):
        assert one.bbox_xyxy == pytest.approx(other.bbox_xyxy, abs=1e-3)
    assert len(found) == len(expected) == 240


def test_runs_one_after_another_share_the_memory_of_pytorch(wide):
    reserved = []
    for _ in range(4):
        run_means(wide, "cuda")
        reserved.append(torch.cuda.memory_reserved())
    assert len(set(reserved[1:])) == 1, reserved


def test_half_a_model_gets_half_floats_and_kept_tensors_stay(wide):
    kept = []

    class Keeps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pictures):
            kept.append(pictures)
            return pictures.float().mean(dim=(2, 3))

    pipeline = fr.Pipeline(f"read '{wide}' ! torch m batch=32 ! null", device="cuda")
    pipeline.model("m", Keeps().half().cuda(), preprocess=fr.Preprocess(normalize=None)).run()
    assert {pictures.dtype for pictures in kept} == {torch.float16}
    assert [number for pictures in kept for number in numbers_of(pictures.cpu())] == list(range(240))


def test_stage_functions_write_planes_on_the_gpu(wide):
    numbers, written = [], []

    @fr.stage(batch=4)
    def paint(batch):
        pictures = batch.tensor(fr.Preprocess(dtype="uint8", normalize=None))
        numbers.extend(numbers_of(pictures.cpu()))
        for frame in batch:
            luma, chroma = (torch.from_dlpack(plane) for plane in frame.planes(writable=True))
            assert luma.is_cuda and luma.shape == (360, 640) and chroma.shape == (180, 640)
            # Whoever reads before this is through sees the old picture.
            torch.cuda._sleep(5_000_000)
            luma[:16, :64] = 16
            luma[:8, :8] = 235

    pipeline = fr.Pipeline(f"read '{wide}' ! sample every=10 ! null", device="cuda").insert_after("sample", paint)
    pipeline.on("paint", lambda items: written.append(number_of(items[0].rgb(), "THWC")))
    pipeline.run()
    assert numbers == list(range(0, 240, 10)) and written == [1] * 24


# Borders to PyTorch; bench/gpu/check_borders.py does the same at length.


def test_memory_is_that_of_pytorch(wide):
    reader = fr.VideoReader(wide, device=CARD)
    gc.collect()
    before = torch.cuda.memory_allocated()
    frames = reader.read_frames(range(8))
    assert torch.cuda.memory_allocated() - before >= frames.nbytes
    del frames
    assert torch.cuda.memory_allocated() == before


def test_a_batch_that_was_recorded_on_another_stream_is_not_overwritten(wide):
    reader = fr.VideoReader(wide, device=CARD)
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    for first in range(0, 120, 10):
        with torch.cuda.stream(side):
            frames = reader.read_frames(range(first, first + 10))
        main.wait_stream(side)
        frames.record_stream(main)
        torch.cuda._sleep(20_000_000)
        copy = frames.clone()
        del frames
        with torch.cuda.stream(side):
            for _ in range(3):
                reader.read_frames(range(200, 210))
        assert numbers_of(copy.cpu()) == list(range(first, first + 10))


def test_the_current_device_stays(wide):
    last = torch.cuda.device_count() - 1
    for current in range(last + 1):
        for given in range(last + 1):
            with torch.cuda.device(current):
                reader = fr.VideoReader(wide, device=f"cuda:{given}")
                frames = [reader[3], next(iter(reader.batches(4))).data, fr.VideoReader(wide, device=f"cuda:{given}", output="dlpack").read_frames([0])]
                assert torch.cuda.current_device() == current == torch.zeros(1, device="cuda").device.index
                assert frames[0].device.index == frames[1].device.index == given
                assert fr.VideoReader(wide, device="cuda")[0].device.index == current
                del reader, frames
                gc.collect()
                assert torch.cuda.current_device() == current == torch.zeros(1, device="cuda").device.index


def test_a_stream_may_be_gone_before_what_was_read_on_it(wide):
    reader = fr.VideoReader(wide, device=CARD, output="dlpack")
    for number in range(20):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            frames = torch.from_dlpack(reader.read_frames([number]))
            copy = frames.clone()
        del stream
        del frames
        other = torch.from_dlpack(reader.read_frames([200]))
        torch.cuda.synchronize()
        assert number_of(copy[0].cpu()) == number and number_of(other[0].cpu()) == 200


def test_after_memory_ran_out_reading_goes_on(wide):
    reader = fr.VideoReader(wide, device=CARD)
    reader.read_frames([0])
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (16 << 20)) / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            reader.read_frames(range(200))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert numbers_of(reader.read_frames([8, 9]).cpu()) == [8, 9]


def test_frames_on_a_gpu_come_to_the_host_where_a_consumer_wants_them_there(wide):
    np = pytest.importorskip("numpy", "2.1")
    tensor = fr.VideoReader(wide, device=CARD, output="dlpack").read_frames([7, 8])
    assert numbers_of(np.from_dlpack(tensor, device="cpu")) == [7, 8]
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    copy = torch.from_dlpack(tensor.__dlpack__(stream=1, copy=True))
    assert copy.data_ptr() != tensor.address and numbers_of(copy.cpu()) == [7, 8]
