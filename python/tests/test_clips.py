import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, numbers_of


@pytest.fixture
def reader(clip):
    return fr.VideoReader(clip, output="numpy")


def test_clips_hold_their_frames(reader):
    clips = fr.sample_clips(reader, num_clips=5, frames_per_clip=4, stride=3, seed=1)
    assert len(clips) == 5 and clips.data.shape == (5, 4, 3, HEIGHT, WIDTH)
    for clip, numbers in zip(clips.data, clips.numbers):
        assert numbers_of(clip) == numbers.tolist() and (np.diff(numbers) == 3).all()
    np.testing.assert_allclose(clips.seconds, clips.numbers / 25)
    np.testing.assert_allclose(clips.durations, 1 / 25)
    assert (clips.status == "ok").all() and not clips.filled.any() and clips.pts_seconds is clips.seconds


def test_the_same_seed_gives_the_same_places(reader):
    def places(seed):
        return [clip for clip, _ in fr.clip_numbers(reader, num_clips=8, frames_per_clip=2, seed=seed)]

    assert places(3) == places(3) != places(4)
    assert fr.mixed_seed(1, 2, 3) == fr.mixed_seed(1, 2, 3) != fr.mixed_seed(1, 3, 2)


def test_policies(reader):
    regular = fr.clip_numbers(reader, num_clips=3, frames_per_clip=2, policy="regular")
    assert [clip for clip, _ in regular] == [[0, 1], [29, 30], [58, 59]]
    every = fr.clip_numbers(reader, frames_per_clip=20, policy="every", step=20)
    assert [clip[0] for clip, _ in every] == [0, 20, 40]
    by_time = fr.clip_numbers(reader, num_clips=1, frames_per_clip=3, stride=0.4, policy="regular", by="seconds")
    assert by_time[0][0] == [0, 10, 20]


def test_edges(reader):
    def last(edge):
        return fr.clip_numbers(reader, frames_per_clip=4, stride=1, policy="every", step=1, start=58, end=59, edge=edge)[0]

    assert last("repeat") == ([58, 59, 59, 59], 2)
    assert last("wrap")[0] == [58, 59, 58, 59] and last("mirror")[0] == [58, 59, 58, 59]
    with pytest.raises(ValueError, match="clip"):
        last("error")


def test_negative_starts_count_from_the_end_and_ends_are_cut_off(reader):
    def starts(**options):
        return [clip[0] for clip, _ in fr.clip_numbers(reader, frames_per_clip=1, policy="every", **options)]

    assert starts(step=1, start=-3) == [57, 58, 59] == starts(step=1, start=57, end=1000)
    assert starts(step=1, start=-6, end=-3) == [54, 55, 56]
    assert starts(by="seconds", step=0.04, start=-0.12, end=99.0) == [57, 58, 59]
    with pytest.raises(ValueError, match="start"):
        starts(step=1, start=-61)


def test_a_stretch_of_time_at_the_videos_own_rate(reader):
    def numbers(**options):
        return [int(number) for batch in reader.batches(7, **options) for number in batch.numbers]

    assert numbers(start_seconds=1.0, end_seconds=1.2) == [25, 26, 27, 28, 29]
    assert numbers(start_seconds=1.01, end_seconds=1.2, every=2) == [25, 27, 29]
    assert numbers(start_seconds=-5.0, end_seconds=0.05) == [0, 1] and numbers(start_seconds=2.3) == [57, 58, 59]
    assert numbers(start_seconds=5.0) == []
    with pytest.raises(ValueError, match="end_seconds"):
        numbers(start_seconds=1.0, end_seconds=0.5)
    with pytest.raises(ValueError, match="by time"):
        numbers(start_seconds=1.0, start=3)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"policy": "best"}, "policy"),
        ({"num_clips": 0}, "num_clips"),
        ({"frames_per_clip": 0}, "frames_per_clip"),
        ({"stride": 0}, "stride"),
        ({"stride": 1.5}, "stride"),
        ({"policy": "every"}, "step"),
        ({"edge": "stop"}, "edge"),
        ({"start": 90}, "90"),
    ],
)
def test_impossible_clips_are_reported(reader, options, words):
    with pytest.raises(ValueError, match=words):
        fr.sample_clips(reader, **options)


def test_augmentation(reader):
    clips = fr.sample_clips(reader, num_clips=3, frames_per_clip=4, seed=0)
    nothing = fr.Augment(dtype="uint8")
    assert (nothing(clips.data, seed=0) == clips.data).all()
    flipped = fr.Augment(flip_horizontal=1.0, dtype="uint8")(clips.data, seed=0)
    assert (flipped == clips.data[..., ::-1]).all()
    augment = fr.Augment(
        crop=fr.RandomResizedCrop(),
        size=(32, 48),
        flip_horizontal=0.5,
        color_jitter=fr.ColorJitter(0.4, 0.4, 0.4, 0.1),
        grayscale=0.2,
        blur=fr.RandomBlur(5),
        erase=fr.RandomErase(),
        normalize=fr.IMAGENET,
    )
    out = augment(clips.data, seed=5)
    assert out.shape == (3, 4, 3, 32, 48) and out.dtype == np.float32 and np.isfinite(out).all()
    assert (augment(clips.data, seed=5, threads=1) == out).all(), "the same seed, whatever the threads"
    assert (augment(clips.data[1], seed=5, clip=1) == out[1]).all(), "each clip by its own number"
    assert not (augment(clips.data, seed=6) == out).all()
    import pickle

    assert (pickle.loads(pickle.dumps(augment))(clips.data, seed=5) == out).all()


def test_one_draw_for_a_clip_or_for_each_frame(reader):
    same = np.repeat(reader.read_frames([8]), 6, axis=0)
    by_clip = fr.Augment(crop=(40, 40))(same, seed=2)
    by_frame = fr.Augment(crop=(40, 40), scope="frame")(same, seed=2)
    assert all((frame == by_clip[0]).all() for frame in by_clip)
    assert not all((frame == by_frame[0]).all() for frame in by_frame)


def test_unfit_augmentation_is_reported(reader):
    frames = reader.read_frames([0])
    with pytest.raises(ValueError, match="flip_horizontal"):
        fr.Augment(flip_horizontal=2.0)
    with pytest.raises(ValueError):
        fr.Augment(crop=(500, 500))(frames, seed=0)
    with pytest.raises(ValueError, match="size"):
        fr.Augment(crop=fr.RandomResizedCrop())(frames, seed=0)
    with pytest.raises(ValueError, match="channels"):
        fr.Augment()(frames[:, :1], seed=0)
    with pytest.raises(ValueError):
        fr.Augment()(frames.astype(np.float16), seed=0)
