"""With PyTorch: tensors, out=, data sets in workers."""

import gc
import os
import pickle

import pytest

torch = pytest.importorskip("torch")

import framerail as fr  # noqa: E402
import numpy as np  # noqa: E402
from clips import HEIGHT, WIDTH, make_clip, number_of, numbers_of  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

pytestmark = [pytest.mark.usefixtures("no_hang"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CLIPS = 200
FRAMES = 8


@pytest.fixture(autouse=True, scope="module")
def longer_hang_limit():
    # Workers that are spawned import PyTorch each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 tiny clips; frame n of clip c carries the number 100 c + n."""
    folder = tmp_path_factory.mktemp("many")
    first = make_clip(folder / "template.mkv", frames=CLIPS * FRAMES, gop=FRAMES, options=("-sc_threshold", "0", "-forced-idr", "1"))
    import subprocess

    command = ["ffmpeg", "-v", "error", "-i", str(first), "-c", "copy", "-f", "segment", "-segment_frames"]
    command += [",".join(str(at) for at in range(FRAMES, CLIPS * FRAMES, FRAMES)), "-reset_timestamps", "1", str(folder / "%03d.mp4")]
    subprocess.run(command, check=True)
    paths = sorted(folder.glob("*.mp4"))
    assert len(paths) == CLIPS
    return paths


def test_torch_is_what_comes_by_default(clip):
    frames = fr.VideoReader(clip).read_frames([5, 2])
    assert isinstance(frames, torch.Tensor) and frames.dtype == torch.uint8 and frames.is_contiguous()
    assert numbers_of(frames) == [5, 2]
    assert isinstance(fr.VideoReader(clip, output="numpy")[0], np.ndarray)
    assert fr.VideoReader(clip)[3:3].shape == (0, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_types(clip, dtype):
    frames = fr.VideoReader(clip, dtype=dtype).read_frames([9])
    assert frames.dtype == dtype and number_of(frames[0].float()) == 9
    out = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=dtype)
    assert fr.VideoReader(clip, dtype=dtype).read_frames([9], out=out) is out
    assert (out == frames).all()


def test_memory_is_handed_over_and_kept(clip):
    reader = fr.VideoReader(clip, output="dlpack")
    tensor = reader.read_frames([1, 2])
    address = tensor.address
    frames = torch.from_dlpack(tensor)
    assert frames.data_ptr() == address
    del tensor
    others = [reader.read_frames([7, 8]) for _ in range(4)]
    assert address not in [other.address for other in others] and numbers_of(frames) == [1, 2]
    del frames, others
    gc.collect()
    again = [reader.read_frames([7, 8]) for _ in range(4)]
    assert address in [other.address for other in again], "recycled once nobody holds it"


def test_out_must_fit(clip):
    reader = fr.VideoReader(clip)
    for out in (torch.zeros(1, 3, HEIGHT, WIDTH), torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="option 'out'"):
            reader.read_frames([0], out=out)
    with pytest.raises(ValueError, match="contiguous"):
        reader.read_frames([0], out=torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8).permute(0, 3, 1, 2))
    part = torch.zeros(4, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    reader.read_frames([6], out=part[2:3])
    assert number_of(part[2]) == 6 and not part[[0, 1, 3]].any()


def test_numbers_may_be_tensors(clip):
    assert numbers_of(fr.VideoReader(clip).read_frames(torch.tensor([4, -1]))) == [4, 59]


def test_augmentation_gives_tensors(clip):
    clips = fr.sample_clips(fr.VideoReader(clip), num_clips=2, frames_per_clip=3, seed=0)
    out = fr.Augment(crop=(32, 32), dtype="bfloat16")(clips.data, seed=1)
    assert out.shape == (2, 3, 3, 32, 32) and out.dtype == torch.bfloat16
    as_numpy = fr.Augment(crop=(32, 32))(clips.data.numpy(), seed=1)
    np.testing.assert_allclose(out.float().numpy(), as_numpy, atol=0.01)


def check(batch):
    """Whether all frames of a batch are those that it says."""
    for source, numbers, frames in zip(batch["source"].tolist(), batch["numbers"].tolist(), batch["frames"]):
        assert numbers_of(frames) == [source * FRAMES + number for number in numbers]


def resident_bytes(process):
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_over_many_clips_gives_right_frames_and_leaks_nothing(many, method):
    data = fr.torch.ClipDataset(many, labels=list(range(CLIPS)), frames_per_clip=4, seed=3)
    assert len(data) == CLIPS
    loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=2, collate_fn=fr.torch.collate, multiprocessing_context=method)
    measures, starts = [], []
    for epoch in range(2):
        data.set_epoch(epoch)
        seen, places = [], {}
        for batch in loader:
            check(batch)
            assert batch["label"].tolist() == batch["source"].tolist()
            seen += batch["source"].tolist()
            places.update(zip(batch["source"].tolist(), batch["numbers"][:, 0].tolist()))
        assert sorted(seen) == list(range(CLIPS)) and seen != list(range(CLIPS))
        starts.append(places)
        del batch
        gc.collect()
        children = [line for line in os.listdir("/proc/self/task")]
        measures.append((len(os.listdir("/proc/self/fd")), len(children), resident_bytes("self")))
    assert starts[0] != starts[1], "each epoch draws its own clips"
    (files, threads, memory), (files_after, threads_after, memory_after) = measures
    assert files_after <= files + 2 and threads_after <= threads + 2
    assert memory_after - memory < 60e6
    import multiprocessing

    assert not multiprocessing.active_children(), "workers are gone"


def test_persistent_workers_see_the_epoch_and_do_not_grow(many):
    data = fr.torch.ClipDataset(many[:60], frames_per_clip=4, seed=3)
    loader = DataLoader(data, batch_size=6, num_workers=2, collate_fn=fr.torch.collate, persistent_workers=True)
    sizes, starts = [], []
    for epoch in range(4):
        data.set_epoch(epoch)
        places = []
        for batch in loader:
            check(batch)
            places += batch["numbers"][:, 0].tolist()
        workers = [worker.pid for worker in loader._iterator._workers]
        sizes.append(sum(resident_bytes(worker) for worker in workers))
        files = [len(os.listdir(f"/proc/{worker}/fd")) for worker in workers]
        starts.append((tuple(places), tuple(files)))
    assert len({places for places, _ in starts}) == 4
    assert sizes[-1] - sizes[1] < 40e6
    assert max(starts[-1][1]) <= max(starts[1][1]) + 4


def test_items_are_what_they_say_and_repeat(many):
    data = fr.torch.ClipDataset(many[:5], num_clips=3, frames_per_clip=2, policy="regular")
    assert len(data) == 15
    item = data[7]
    assert (item["source"], item["clip"], item["filled"]) == (2, 1, 0) and "label" not in item
    assert numbers_of(item["frames"]) == [16 + number for number in item["numbers"].tolist()]
    assert data[-1]["source"] == 4
    with pytest.raises(IndexError):
        data[15]
    random = fr.torch.ClipDataset(many[:5], frames_per_clip=2, seed=9)
    copy = pickle.loads(pickle.dumps(random))
    assert (copy[3]["frames"] == random[3]["frames"]).all()
    random.close()


def test_batches_are_made_in_place(many):
    data = fr.torch.ClipDataset(many, frames_per_clip=2)
    items = data.__getitems__([3, 9, 4])
    batch = fr.torch.collate(items)
    check(batch)
    assert batch["frames"].data_ptr() == items[0]["frames"].data_ptr(), "no copy"
    assert torch.utils.data.default_collate(items)["frames"].equal(batch["frames"])


def test_transforms_and_augmentation_in_a_loader(many):
    augment = fr.Augment(crop=(32, 32), flip_horizontal=0.5, normalize=fr.IMAGENET)
    data = fr.torch.ClipDataset(many[:8], frames_per_clip=2, augment=augment, transform=torch.neg, seed=1)
    first = [batch["frames"] for batch in DataLoader(data, batch_size=4, num_workers=2, collate_fn=fr.torch.collate)]
    second = [batch["frames"] for batch in DataLoader(data, batch_size=4, collate_fn=fr.torch.collate)]
    assert first[0].shape == (4, 2, 3, 32, 32) and all(a.equal(b) for a, b in zip(first, second))


def test_broken_sources_are_raised_or_skipped_and_counted(many, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    sources = [many[0], tmp_path / "broken.mp4", many[2], tmp_path / "missing.mp4"]
    with pytest.raises(fr.DecodeError):
        fr.torch.ClipDataset(sources, frames_per_clip=2)[1]
    data = fr.torch.ClipDataset(sources, frames_per_clip=2, errors="skip")
    batches = list(DataLoader(data, batch_size=2, num_workers=2, collate_fn=fr.torch.collate))
    assert [batch["source"].tolist() for batch in batches] == [[0], [2]] and data.failed == 2
    assert fr.torch.collate([None, None]) is None
    stream = fr.torch.ClipStream(sources, frames_per_clip=4, errors="skip")
    assert {item["source"] for item in stream} == {0, 2} and stream.failed == 2


def test_shares_of_ranks(many):
    parts = [fr.torch.ClipDataset(many[:11], labels=range(11), rank=rank, world_size=3) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 3, 3]
    assert parts[1].labels == [1, 4, 7]
    with pytest.raises(ValueError, match="rank"):
        fr.torch.ClipDataset(many, rank=3, world_size=3)
    with pytest.raises(ValueError, match="go together"):
        fr.torch.ClipDataset(many, rank=3)
    with pytest.raises(ValueError, match="labels"):
        fr.torch.ClipDataset(many, labels=[1])


def test_streams_divide_sources_among_ranks_and_workers(many):
    seen = []
    for rank in range(2):
        stream = fr.torch.ClipStream(many[:21], frames_per_clip=4, shuffle=True, seed=4, rank=rank, world_size=2)
        for batch in DataLoader(stream, batch_size=3, num_workers=2, collate_fn=fr.torch.collate):
            check(batch)
            seen += zip(batch["source"].tolist(), batch["clip"].tolist())
    assert sorted(seen) == [(source, clip) for source in range(21) for clip in (0, 1)]
    first = [item["source"] for item in stream]
    stream.set_epoch(1)
    assert first != [item["source"] for item in stream]


def test_options_are_checked_when_the_data_set_is_made(many):
    with pytest.raises(TypeError, match="unknown option"):
        fr.torch.ClipDataset(many, sizes=3)
    with pytest.raises(ValueError, match="policy"):
        fr.torch.ClipDataset(many, policy="every")
    with pytest.raises(ValueError, match="errors"):
        fr.torch.ClipDataset(many, errors="ignore")
    with pytest.raises(ValueError, match="output"):
        fr.torch.ClipDataset(many, output="numpy")


def test_tensors_choose_frames_as_arrays_do(clip):
    with fr.VideoReader(clip) as reader:
        everything = reader[:]
        for index in (torch.arange(60) == 40, torch.tensor([[3, -1], [7, 3]]), torch.tensor(9), torch.tensor([5, 6], dtype=torch.int32)):
            assert torch.equal(reader[index], everything[index])
        with pytest.raises(IndexError, match="mask"):
            reader[torch.ones(59, dtype=torch.bool)]


def test_what_comes_beside_tensors_are_tensors(clip):
    with fr.VideoReader(clip) as reader:
        batch = reader.read([3, 9, 12])
        assert isinstance(batch.numbers, torch.Tensor) and batch.numbers.tolist() == [3, 9, 12]
        batch.seconds.add_(1.0)
        assert batch.seconds.dtype == torch.float64 and batch.is_keyframe.tolist() == [False, False, True]
        frame, *others = batch
        assert (frame.number, frame.status, len(others)) == (3, "ok", 2) and torch.equal(frame.data, batch.data[0])
        assert batch[torch.tensor([True, False, True])].numbers.tolist() == [3, 12] and batch[1:].data.shape[0] == 2
        assert "uint8 on cpu" in repr(batch) and "Tensor[3, 3, 96, 128]" in repr(batch)
        clips = fr.sample_clips(reader, num_clips=2, frames_per_clip=4)
        assert isinstance(clips.filled, torch.Tensor) and clips.numbers.shape == (2, 4) and "2 clips of 4 frames" in repr(clips)


def test_planes_that_must_not_be_written_are_copies(clip):
    def write(items):
        torch.from_dlpack(items[0].planes()[0]).fill_(0)
        assert number_of(torch.from_dlpack(items[0].planes()[0])[None]) == items[0].index

    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! sample every=20 ! null")
    pipeline.on("sample", write)
    pipeline.run()
