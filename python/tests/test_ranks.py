"""Training over several ranks: equal shares, and going on in the middle of an epoch."""

import pytest

torch = pytest.importorskip("torch")

import framerail as fr  # noqa: E402
from clips import make_clip, number_of  # noqa: E402
from framerail.shards import even_runs  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

LENGTHS = (40, 9, 70, 21)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    place = tmp_path_factory.mktemp("ranks")
    return [make_clip(place / f"{number}.mp4", frames=frames, first=100 * number) for number, frames in enumerate(LENGTHS)]


def first_numbers(stream):
    return [number_of(item["frames"][0]) for item in stream]


@pytest.mark.parametrize("even", ["pad", "drop"])
@pytest.mark.parametrize(("world_size", "workers"), [(1, 1), (2, 1), (3, 2), (7, 1), (50, 1)])
def test_shares_are_equal_and_cover_everything(even, world_size, workers):
    counts, order = [5, 0, 17, 2], [2, 0, 3, 1]
    shards = world_size * workers
    shares = [even_runs(order, counts, shards, number, even) for number in range(shards)]
    clips = [[(run.source, clip) for run in share for clip in range(run.first, run.last)] for share in shares]
    assert {len(one) for one in clips} == {24 // shards if even == "drop" else -(-24 // shards)}
    everything = [(source, clip) for source in order for clip in range(counts[source])]
    flat = [clip for one in clips for clip in one]
    assert flat == (3 * everything)[: len(flat)], "in order, and from the beginning again"
    assert even_runs([0], [0], 2, 0, even) == []


@pytest.mark.parametrize("even", ["pad", "drop"])
def test_ranks_get_equally_many_batches(sources, even):
    ranks = [fr.torch.ClipStream(sources, frames_per_clip=4, even=even, shuffle=True, seed=3, rank=rank, world_size=3) for rank in range(3)]
    found = [[len(batch["frames"]) for batch in DataLoader(rank, batch_size=4, num_workers=2, collate_fn=fr.torch.collate)] for rank in ranks]
    assert found[0] == found[1] == found[2]
    assert ranks[0].rank_counts(3) == [11 if even == "drop" else 12] * 3
    clips = [number for rank in ranks for number in first_numbers(rank)]
    everything = {100 * source + first for source, frames in enumerate(LENGTHS) for first in range(0, frames - 3, 4)}
    assert len(everything) == 34 and set(clips) <= everything and (even == "drop" or set(clips) == everything)


def test_without_it_ranks_say_by_how_much_they_differ(sources):
    stream = fr.torch.ClipStream(sources, frames_per_clip=4)
    assert stream.rank_counts(2) == [10 + 17, 2 + 5]
    with pytest.raises(ValueError, match="option 'even'"):
        fr.torch.ClipStream(sources, even="cut")


def test_what_is_skipped_is_made_up_for(sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(sources[0].read_bytes())
    stream = fr.torch.ClipStream([*sources[1:], bad], frames_per_clip=4, even="pad", errors="skip", rank=0, world_size=1)
    bad.write_bytes(b"not a video any more")
    assert len(list(stream)) == 2 + 17 + 5 + 10 and stream.failed == 1


@pytest.mark.parametrize("even", [None, "pad"])
@pytest.mark.parametrize("at", [0, 1, 9, 16])
def test_a_pass_goes_on_where_it_stood(sources, even, at):
    def stream():
        return fr.torch.ClipStream(sources, frames_per_clip=4, even=even, shuffle=True, seed=5, rank=1, world_size=2)

    first = stream()
    first.set_epoch(2)
    whole = first_numbers(first)
    passing = iter(first)
    given = [number_of(next(passing)["frames"][0]) for _ in range(min(at, len(whole)))]
    other = stream()
    other.load_state_dict(first.state_dict())
    assert given + first_numbers(other) == whole
    assert first_numbers(other) == whole, "the next pass is a whole one"
    with pytest.raises(ValueError, match="seed is 6"):
        fr.torch.ClipStream(sources, frames_per_clip=4, seed=6, rank=1, world_size=2).load_state_dict(first.state_dict())


def test_torchdatas_stateful_loader_resumes_in_its_workers(sources):
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="NOT TESTED: torchdata is not installed")

    def loader():
        stream = fr.torch.ClipStream(sources, frames_per_clip=4, even="drop", rank=0, world_size=1)
        return stateful.StatefulDataLoader(stream, batch_size=3, num_workers=2, collate_fn=fr.torch.collate)

    def numbers(batch):
        return [number_of(frames[0]) for frames in batch["frames"]]

    whole = [numbers(batch) for batch in loader()]
    first = loader()
    passing = iter(first)
    given = [numbers(next(passing)) for _ in range(5)]
    other = loader()
    other.load_state_dict(first.state_dict())
    assert given + [numbers(batch) for batch in other] == whole
