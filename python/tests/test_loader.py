"""Batches of clips from many files: order, pixels, errors, resuming."""

import gc
import os
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import framerail as fr  # noqa: E402
from clips import HEIGHT, WIDTH, make_clip, number_of, numbers_of  # noqa: E402
from torch.utils.data import DataLoader, DistributedSampler  # noqa: E402

pytestmark = [pytest.mark.usefixtures("no_hang")]

COUNT, FRAMES = 24, 20


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """24 clips of 20 frames in groups of 10; frame n of clip c carries the number 20 c + n."""
    folder = tmp_path_factory.mktemp("many")
    first = make_clip(folder / "template.mkv", frames=COUNT * FRAMES, gop=10, options=("-sc_threshold", "0", "-forced-idr", "1"))
    command = ["ffmpeg", "-v", "error", "-i", str(first), "-c", "copy", "-f", "segment", "-segment_frames"]
    command += [",".join(str(at) for at in range(FRAMES, COUNT * FRAMES, FRAMES)), "-reset_timestamps", "1", str(folder / "%03d.mp4")]
    subprocess.run(command, check=True)
    return sorted(folder.glob("*.mp4"))


def check(batch):
    for source, numbers, frames in zip(batch["source"].tolist(), batch["numbers"].tolist(), batch["frames"]):
        assert numbers_of(frames) == [source * FRAMES + number for number in numbers]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(torch.as_tensor(first[name]), torch.as_tensor(second[name])) for name in first)


def all_same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(map(same, first, second))


def test_batches_are_those_of_a_data_loader(many):
    data = fr.torch.ClipDataset(many, labels=range(COUNT), frames_per_clip=4, stride=2, seed=3, columns={"name": [path.name for path in many]})
    with fr.torch.ClipLoader(data, batch_size=5) as loader:
        assert len(loader) == 5
        batches = list(loader)
    plain = list(DataLoader(data, batch_size=5, collate_fn=fr.torch.collate))
    assert [batch["name"] for batch in batches] == [batch.pop("name") for batch in plain]
    for batch in batches:
        check(batch)
        assert batch["label"].tolist() == batch["source"].tolist()
        del batch["name"]
    assert all_same(batches, plain)


def test_epochs_are_the_same_whatever_is_decoded_ahead(many):
    augment = fr.Augment(crop=fr.RandomResizedCrop(), size=(32, 40), flip_horizontal=0.5, color_jitter=fr.ColorJitter(brightness=0.4))

    def epoch(number, **options):
        data = fr.torch.ClipDataset(many, frames_per_clip=4, num_clips=2, augment=augment, seed=11)
        with fr.torch.ClipLoader(data, batch_size=7, shuffle=True, **options) as loader:
            loader.set_epoch(number)
            return list(loader)

    first = epoch(2, threads=1, prefetch=1)
    assert first[0]["frames"].shape == (7, 4, 3, 32, 40)
    assert all_same(first, epoch(2, threads=3, prefetch=6)) and all_same(first, epoch(2, threads=2, memory=1, max_open=0))
    other = epoch(3)
    assert first[0]["source"].tolist() != other[0]["source"].tolist()


def test_passes_count_epochs_on(many):
    data = fr.torch.ClipDataset(many, frames_per_clip=2, seed=1)
    with fr.torch.ClipLoader(data, batch_size=8, shuffle=True) as loader:
        order = [[batch["source"].tolist() for batch in loader] for _ in range(2)]
        assert loader.epoch == 1 and order[0] != order[1]
        loader.set_epoch(0)
        assert order[0] == [batch["source"].tolist() for batch in loader]
        loader.set_epoch(0)
        first = next(iter(loader))
        assert same(first, next(iter(loader))) and loader.state_dict()["batch"] == 1, "a pass that was left begins again"
        # Trainers take as many batches as the loader says that it has, and never ask for the end.
        loader.set_epoch(0)
        counted = [[batch["source"].tolist() for _, batch in zip(range(len(loader)), loader)] for _ in range(2)]
        assert counted == order


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_killed_run_goes_on_with_the_very_next_batch(many, taken):
    def loader():
        data = fr.torch.ClipDataset(many, frames_per_clip=3, seed=5)
        return fr.torch.ClipLoader(data, batch_size=5, shuffle=True)

    with loader() as whole:
        whole.set_epoch(4)
        expected = list(whole)
    with loader() as killed:
        killed.set_epoch(4)
        batches = iter(killed)
        for _ in range(taken):
            next(batches)
        state = pickle.loads(pickle.dumps(killed.state_dict()))
    with loader() as resumed:
        resumed.load_state_dict(state)
        assert all_same(resumed, expected[taken:])
        resumed.set_epoch(4)
        assert all_same(resumed, expected)
        with pytest.raises(ValueError, match="batch_size"):
            resumed.load_state_dict({**state, "batch_size": 6})


def test_ranks_share_an_epoch(many):
    seen = []
    for rank in range(2):
        data = fr.torch.ClipDataset(many, frames_per_clip=2)
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=True, seed=1)
        with fr.torch.ClipLoader(data, batch_size=4, sampler=sampler) as loader:
            loader.set_epoch(3)
            assert len(loader) == 3 and sampler.epoch == 3
            seen += [source for batch in loader for source in batch["source"].tolist()]
    assert sorted(seen) == list(range(COUNT))
    batches = [[3, 1], [0], [7, 7, 2]]
    with fr.torch.ClipLoader(data, batch_sampler=batches) as loader:
        assert len(loader) == 3 and [batch["source"].tolist() for batch in loader] == batches


def test_errors_are_those_of_the_clip(many, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(many[3].read_bytes()[:600])
    sources = [*many[:3], tmp_path / "broken.mp4", cut, tmp_path / "missing.mp4", *many[6:10]]
    right = [0, 1, 2, 6, 7, 8, 9]
    data = fr.torch.ClipDataset(sources, frames_per_clip=2)
    with fr.torch.ClipLoader(data, batch_size=4) as loader:
        with pytest.raises(fr.DecodeError, match="broken"):
            list(loader)
    with fr.torch.ClipLoader(data, batch_size=3, errors="skip") as loader:
        batches = list(loader)
        assert [source for batch in batches for source in batch["source"].tolist()] == right
        assert {os.path.basename(name) for name in loader.failures} == {"broken.mp4", "cut.mp4", "missing.mp4"}
        stats = loader.stats
        assert stats["clips_skipped"] == stats["clips_failed"] == 3 and stats["batches"] == 4 and stats["clips"] == 7
        state = loader.state_dict()
        assert state["batch"] == 4, "a batch of nothing but errors is passed too"
    with fr.torch.ClipLoader(data, batch_size=5, errors="replace") as loader:
        replaced = list(loader)
        assert all(len(batch["source"]) == 5 for batch in replaced) and loader.stats["clips_replaced"] == 3
        for batch in replaced:
            check(batch)
    with fr.torch.ClipLoader(data, batch_size=5, errors="replace", threads=1) as loader:
        assert all_same(loader, replaced)
    items = fr.torch.ClipDataset(sources, frames_per_clip=2, errors="replace")
    assert [item["source"] in right for item in items.__getitems__([3, 0, 5])] == [True] * 3 and items.failed == 2
    nothing = fr.torch.ClipDataset([tmp_path / "missing.mp4"], frames_per_clip=2, size=(8, 8), errors="skip")
    with fr.torch.ClipLoader(nothing) as loader, pytest.raises(FileNotFoundError):
        list(loader)


def test_sizes_that_differ_are_errors_of_their_clips(many, tmp_path):
    small = make_clip(tmp_path / "small.mp4", frames=4, width=64, height=64)
    data = fr.torch.ClipDataset([many[0], small], frames_per_clip=2)
    assert [item["frames"].shape[-1] for item in data.__getitems__([0, 1])] == [WIDTH, 64]
    with fr.torch.ClipLoader(data, batch_size=2) as loader, pytest.raises(ValueError, match="small.mp4: its clips are .*give a size"):
        list(loader)
    with fr.torch.ClipLoader(fr.torch.ClipDataset([many[0], small], frames_per_clip=2, size=(48, 64)), batch_size=2) as loader:
        assert [tuple(batch["frames"].shape) for batch in loader] == [(2, 2, 3, 48, 64)]


def test_clips_of_one_group_are_decoded_once(many):
    data = fr.torch.ClipDataset([many[5]], num_clips=6, frames_per_clip=4, policy="random", seed=2)
    with fr.torch.ClipLoader(data, batch_size=6, threads=1) as loader:
        (batch,) = loader
        assert loader.stats["clips_shared"] >= 2 and loader.stats["files_opened"] == 1
    numbers = [set(clip) for clip in batch["numbers"].tolist()]
    assert len(numbers) == 6
    for numbers, frames in zip(batch["numbers"].tolist(), batch["frames"]):
        assert numbers_of(frames) == [5 * FRAMES + number for number in numbers]


def test_snapped_clips_start_at_keyframes(many):
    def starts(**options):
        data = fr.torch.ClipDataset(many, frames_per_clip=3, seed=7, **options)
        with fr.torch.ClipLoader(data, batch_size=COUNT) as loader:
            (batch,) = loader
        assert numbers_of(batch["frames"][:, 0]) == [source * FRAMES + number[0] for source, number in enumerate(batch["numbers"].tolist())]
        return batch["numbers"][:, 0].tolist()

    plain, snapped = starts(), starts(snap=3)
    assert [start - start % 10 if start % 10 <= 3 else start for start in plain] == snapped != plain
    with pytest.raises(ValueError, match="snap"):
        fr.torch.ClipDataset(many, by="seconds", snap=3)[0]


def test_views_crops_and_channels_first(many):
    augment = fr.Augment(flip_horizontal=0.5, crop=(24, 24), dtype="uint8")
    views = fr.torch.ClipDataset(many[:6], frames_per_clip=2, augment=augment, views=2, seed=1)
    item = views[3]
    assert item["frames"].shape == (2, 2, 3, 24, 24) and not torch.equal(item["frames"][0], item["frames"][1])
    single = fr.torch.ClipDataset(many[:6], frames_per_clip=2, augment=augment, seed=1)[3]
    assert torch.equal(single["frames"], item["frames"][0]) and torch.equal(single["numbers"], item["numbers"])
    first = fr.torch.ClipDataset(many[:6], frames_per_clip=2, augment=augment, seed=1, layout="CTHW")[3]["frames"]
    assert first.is_contiguous() and torch.equal(first, single["frames"].transpose(0, 1))
    plain = fr.torch.ClipDataset(many[:6], frames_per_clip=2, seed=1, layout="CTHW")[2]["frames"]
    assert plain.shape == (3, 2, HEIGHT, WIDTH) and numbers_of(plain.transpose(0, 1))[0] // FRAMES == 2

    # 128x96 scaled to 64x48; windows of 48x48 at 0, 8 and 16.
    crops = fr.torch.ClipDataset(many[:6], frames_per_clip=2, policy="regular", short_side=48, size=(48, 48), crops=3)[4]["frames"]
    whole = fr.torch.ClipDataset(many[:6], frames_per_clip=2, policy="regular", short_side=48)[4]["frames"]
    assert crops.shape == (3, 2, 3, 48, 48) and whole.shape == (2, 3, 48, 64)
    assert all(torch.equal(crop, whole[..., x : x + 48]) for crop, x in zip(crops, (0, 8, 16)))
    middle = fr.torch.ClipDataset(many[:6], frames_per_clip=2, policy="regular", short_side=48, size=(48, 48))[4]["frames"]
    assert torch.equal(middle, crops[1])
    with pytest.raises(ValueError, match="cannot be cut out"):
        fr.torch.ClipDataset(many[:6], short_side=48, size=(64, 48))[0]
    for options in ({"views": 2}, {"crops": 3}, {"crops": 2, "short_side": 48, "size": (48, 48)}, {"short_side": 48, "crop": (0, 0, 9, 9)}):
        with pytest.raises(ValueError):
            fr.torch.ClipDataset(many[:6], **options)[0]


def test_images_are_clips_of_one_frame(many, tmp_path):
    image = tmp_path / "still.png"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(many[2]), "-frames:v", "1", str(image)], check=True)
    data = fr.torch.ClipDataset([many[1], image], frames_per_clip=3)
    with fr.torch.ClipLoader(data, batch_size=2) as loader:
        (batch,) = loader
    assert batch["filled"].tolist() == [0, 2] and numbers_of(batch["frames"][1]) == [2 * FRAMES] * 3


def test_bytes_are_sources_and_file_objects_are_not(many):
    data = fr.torch.ClipDataset([many[0].read_bytes(), many[1]], frames_per_clip=2)
    with fr.torch.ClipLoader(data, batch_size=2) as loader:
        for batch in loader:
            check(batch)
    with open(many[0], "rb") as file, pytest.raises(TypeError, match="file object"):
        fr.torch.ClipDataset([file], frames_per_clip=2)[0]


def test_options_are_checked(many):
    data = fr.torch.ClipDataset(many)
    for options in ({"batch_size": 0}, {"errors": "ignore"}, {"prefetch": 0}, {"shuffle": True, "sampler": [1]}, {"batch_sampler": [[1]], "drop_last": True}):
        with pytest.raises(ValueError):
            fr.torch.ClipLoader(data, **options)
    with pytest.raises(ValueError, match="ClipDataset"):
        fr.torch.ClipLoader([1, 2])
    with pytest.raises(ValueError, match="columns"):
        fr.torch.ClipDataset(many, columns={"frames": [0] * COUNT})
    with pytest.raises(ValueError, match="column 'x'"):
        fr.torch.ClipDataset(many, columns={"x": [0]})


def test_memory_and_files_stay_flat_over_epochs(many):
    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    data = fr.torch.ClipDataset(many, frames_per_clip=4, size=(64, 64))
    with fr.torch.ClipLoader(data, batch_size=4, shuffle=True, max_open=6) as loader:
        sizes, files = [], []
        for _ in range(10):
            for batch in loader:
                pass
            del batch
            sizes.append(resident())
            files.append(len(os.listdir("/proc/self/fd")))
        threads = len(os.listdir("/proc/self/task"))
    assert max(files[3:]) <= max(files[:3]) + 2 and sizes[-1] - sizes[2] < 20e6
    assert len(os.listdir("/proc/self/task")) < threads, "its threads are gone"


def test_leaving_a_pass_ends_it_and_an_interrupt_comes_through(many, tmp_path):
    program = tmp_path / "left.py"
    program.write_text(
        "import sys, signal, threading, os\n"
        "import framerail as fr\n"
        "data = fr.torch.ClipDataset(sys.argv[1:], frames_per_clip=4)\n"
        "loader = fr.torch.ClipLoader(data, batch_size=2)\n"
        "for batch in loader:\n"
        "    break\n"
        "print(len(list(loader)))\n"
        "try:\n"
        "    for batch in loader:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', loader.state_dict()['batch'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, str(program), *map(str, many)], capture_output=True, text=True, timeout=120, env=environment)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.split("\n")
    assert lines[0] == "12" and lines[1].startswith("interrupted")


def test_averages_over_clips_and_crops():
    scores = fr.torch.VideoAverage()
    scores.update(torch.tensor([4, 1]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    scores.update([4], torch.tensor([[3.0, 0.0]]))
    scores.update([1], torch.tensor([[2.0, 2.0], [4.0, 2.0]]))
    sources, means = scores.result()
    assert sources.tolist() == [1, 4] and torch.allclose(means, torch.tensor([[2.0, 2.0], [2.0, 0.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="3 values for 2 clips"):
        scores.update([1, 2], torch.zeros(3, 2))


def test_a_progress_line_says_how_far_it_is(many, capsys):
    data = fr.torch.ClipDataset(many[:4], frames_per_clip=2)
    with fr.torch.ClipLoader(data, batch_size=2, progress=True) as loader:
        list(loader)
    assert "epoch 0: 2/2 batches" in capsys.readouterr().err


def test_workers_share_the_cores(many, caplog):
    data = fr.torch.ClipDataset(many[:6], frames_per_clip=2)
    for batch in DataLoader(data, batch_size=3, num_workers=2, collate_fn=fr.torch.collate):
        check(batch)
        assert batch["frames"].is_shared()
    assert number_of(data[0]["frames"][0]) // FRAMES == 0


def test_an_index_of_a_folder_makes_a_data_set(many, tmp_path):
    import shutil

    for name, sources in {"cats": many[:3], "dogs": many[3:5]}.items():
        (tmp_path / name).mkdir()
        for source in sources:
            shutil.copy2(source, tmp_path / name / source.name)
    (tmp_path / "dogs" / "broken.mp4").write_bytes(b"no video")
    command = ["ffmpeg", "-v", "error", "-i", str(many[5]), "-c", "copy", "-f", "mpegts", str(tmp_path / "dogs" / "last.ts")]
    subprocess.run(command, check=True)
    out = tmp_path / "index.parquet"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments):
        whole = [sys.executable, "-m", "framerail", "index", *map(str, arguments)]
        return subprocess.run(whole, capture_output=True, text=True, env=environment, timeout=120)

    ran = run(tmp_path, "-o", out)
    assert ran.returncode == 0 and "6 videos, 120 frames (0 unchanged, 1 failed)" in ran.stdout, ran
    assert "broken.mp4 is left out" in ran.stderr
    assert "(6 unchanged, 1 failed)" in run(tmp_path, "-o", out).stdout
    table = fr.read_index(out)
    assert table["path"][0] == os.path.join("cats", many[0].name) and table["keyframes"][0] == [0, 10] and table["frames"][0] == FRAMES
    assert (table["width"][0], table["height"][0], table["codec"][0]) == (WIDTH, HEIGHT, "h264") and abs(table["duration_seconds"][0] - 0.8) < 1e-6
    assert run(tmp_path / "nowhere", "-o", out).returncode == 3 and run(tmp_path / "cats").returncode == 2
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "-o", tmp_path / "none.parquet").returncode == 3 and not (tmp_path / "none.parquet").exists()

    data = fr.torch.ClipDataset.from_index(out, labels="folder", frames_per_clip=3, seed=2)
    assert data.classes == ["cats", "dogs"] and data.labels == [0, 0, 0, 1, 1, 1]
    plain = fr.torch.ClipDataset(data.sources, labels=data.labels, frames_per_clip=3, seed=2)
    with fr.torch.ClipLoader(data, batch_size=4) as loader:
        batches = list(loader)
        assert loader.stats["indexes_stale"] == 0
    with fr.torch.ClipLoader(plain, batch_size=4) as loader:
        assert all_same(batches, loader)
    part = fr.torch.ClipDataset.from_index(out, labels="codec", where=lambda row: row["container"] == "mpegts", frames_per_clip=3)
    assert len(part) == 1 and part[0]["label"] == "h264" and numbers_of(part[0]["frames"])[0] // FRAMES == 5

    shutil.copy(many[7], tmp_path / "cats" / many[0].name)
    with fr.torch.ClipLoader(data, batch_size=1) as loader:
        first = next(iter(loader))
        assert loader.stats["indexes_stale"] == 1 and numbers_of(first["frames"][0])[0] // FRAMES == 7
    with pytest.raises(ValueError, match="no column 'kind'"):
        fr.torch.ClipDataset.from_index(out, labels="kind")
    with pytest.raises(fr.DecodeError, match="Parquet"):
        fr.read_index(many[0])


def test_names_that_are_not_utf8_are_errors_of_their_files(many, tmp_path):
    import shutil

    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    shutil.copy(many[0], odd)
    shutil.copy(many[1], tmp_path / "fine.mp4")
    assert fr.index_videos(tmp_path, tmp_path / "index.parquet") == {"indexed": 1, "kept": 0, "failed": 1}
    assert "not UTF-8" in fr.read_index(tmp_path / "index.parquet")["error"][0]
    data = fr.torch.ClipDataset([os.fsdecode(odd), tmp_path / "fine.mp4"], frames_per_clip=2, size=(HEIGHT, WIDTH), errors="skip")
    with fr.torch.ClipLoader(data, batch_size=2) as loader:
        (batch,) = loader
        assert batch["source"].tolist() == [1] and len(loader.failures) == 1
    assert not list(fr.torch.ClipLoader(fr.torch.ClipDataset([], frames_per_clip=2), batch_size=2))


def test_further_columns_of_an_index_come_with_clips(many, tmp_path):
    from framerail import _framerail

    assert fr.index_videos(many[:3], tmp_path / "index.parquet") == {"indexed": 3, "kept": 0, "failed": 0}
    table = fr.read_index(tmp_path / "index.parquet")
    kinds = __import__("framerail.video_index", fromlist=["COLUMNS"]).COLUMNS
    columns = [(name, kinds[name], values) for name, values in table.items()]
    _framerail.write_index(tmp_path / "more.parquet", [*columns, ("weight", "real", [0.5, 1.5, 2.5])])
    data = fr.torch.ClipDataset.from_index(tmp_path / "more.parquet", frames_per_clip=2, rank=1, world_size=2)
    assert len(data) == 1 and data[0]["weight"] == 1.5 and numbers_of(data[0]["frames"])[0] // FRAMES == 1


def test_audio_plays_with_its_clip(many, tmp_path):
    # A tone that begins half-way: 0.4 s of silence, then 0.4 s of 1000 Hz.
    tone = "aevalsrc='if(gte(t,0.4),0.5*sin(2*PI*1000*t),0)':s=16000:d=0.8"
    sounding = tmp_path / "sounding.mkv"
    command = ["ffmpeg", "-v", "error", "-i", str(many[0]), "-f", "lavfi", "-i", tone, "-c:v", "copy", "-c:a", "pcm_s16le", str(sounding)]
    subprocess.run(command, check=True)
    audio = fr.torch.ClipAudio(sample_rate=16000, seconds=0.2)
    data = fr.torch.ClipDataset([sounding, many[1]], num_clips=2, policy="regular", frames_per_clip=2, stride=1, end=11, audio=audio)
    with fr.torch.ClipLoader(data, batch_size=4) as loader:
        (batch,) = loader
    assert batch["audio"].shape == (4, 1, 3200) and batch["has_audio"].tolist() == [True, True, False, False]
    assert batch["seconds"][:2, 0].tolist() == pytest.approx([0.0, 0.4], abs=1e-3)
    loud = batch["audio"].abs().amax((1, 2)).tolist()
    assert loud[0] < 0.01 and loud[1] > 0.4 and loud[2:] == [0.0, 0.0]
    assert torch.equal(data[1]["audio"], batch["audio"][1])
    with pytest.raises(ValueError, match="seconds"):
        fr.torch.ClipAudio(16000, 0)


def test_the_example_trains_on_a_folder_and_goes_on(many, tmp_path):
    import shutil

    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    for place, source in enumerate(many[:8]):
        folder = tmp_path / ("cats" if place % 2 else "dogs")
        folder.mkdir(exist_ok=True)
        shutil.copy2(source, folder / source.name)
    program = os.path.join(sources, "examples", "python", "train_clips.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        command = [sys.executable, program, str(tmp_path), "--size", "32", "--batch", "2", "--every", "4", "--device", "cpu", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "of 2 videos" in run("--epochs", "1")
    assert "epoch 1: accuracy" in run("--epochs", "2", "--resume")
