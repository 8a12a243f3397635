"""Programs that read videos, unchanged: each with its default reader and with framerail, and the same frames from both.

`make test-ecosystem` installs them. A test whose program is not installed is skipped.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, make_clip, number_picture, numbers_of

torch = pytest.importorskip("torch")


#: The line that users add.
INSTALL = "import framerail.compat.{0} as compat; compat.install()\n"


def run(program, path):
    """Runs a program in a process that has imported nothing; what it leaves in `result`."""
    code = f"import torch\n{program}\ntorch.save(result, {str(path)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    return torch.load(path)


def run_both(program, folder):
    """What the program leaves in `result`, by TorchCodec and by framerail."""
    return [run(install + program, folder / f"{at}.pt") for at, install in enumerate(("", INSTALL.format("torchcodec")))]


class TestQwenVlUtils:
    @pytest.fixture(autouse=True)
    def vision_process(self):
        self.process = pytest.importorskip("qwen_vl_utils").vision_process
        backends, forced = dict(self.process.VIDEO_READER_BACKENDS), self.process.FORCE_QWENVL_VIDEO_READER
        yield
        self.process.VIDEO_READER_BACKENDS.clear()
        self.process.VIDEO_READER_BACKENDS.update(backends)
        self.process.FORCE_QWENVL_VIDEO_READER = forced
        self.process.get_video_reader_backend.cache_clear()

    @pytest.mark.parametrize("asked", [{"nframes": 8}, {"fps": 4.0}, {"video_start": 0.5, "video_end": 1.7, "fps": 10.0}, {}])
    def test_frames_equal_its_default_readers(self, clip, asked):
        from framerail.compat import qwen_vl_utils as ours

        element = {"video": str(clip), **asked}
        wanted, known, rate = self.process.VIDEO_READER_BACKENDS["torchcodec"](element)
        frames, metadata, ours_rate = ours.read_video(element)
        assert torch.equal(frames, wanted) and rate == pytest.approx(ours_rate)
        assert {**known, "video_backend": "framerail"} == metadata | {"fps": pytest.approx(known["fps"])}

    def test_messages_with_videos(self, clip):
        """process_vision_info over a chat message: sizes, resampling and metadata as by its default reader."""
        from framerail.compat import qwen_vl_utils as ours

        video = {"type": "video", "video": f"file://{clip}", "nframes": 8, "min_pixels": 28 * 28 * 4, "max_pixels": 28 * 28 * 8}
        messages = [{"role": "user", "content": [video, {"type": "text", "text": "What happens?"}]}]
        self.process.FORCE_QWENVL_VIDEO_READER = "torchcodec"
        self.process.get_video_reader_backend.cache_clear()
        _, wanted, options = self.process.process_vision_info(messages, return_video_kwargs=True)
        ours.install()
        _, found, ours_options = self.process.process_vision_info(messages, return_video_kwargs=True)
        assert torch.equal(found[0], wanted[0]) and found[0].shape[0] == 8
        assert ours_options["fps"] == pytest.approx(options["fps"])


class TestTransformers:
    def test_frames_equal_its_default_readers(self, clip):
        pytest.importorskip("transformers")
        from framerail.compat import transformers as ours
        from transformers.video_utils import VIDEO_DECODERS, load_video

        wanted, known = load_video(str(clip), num_frames=8, backend="torchcodec")
        before = dict(VIDEO_DECODERS)
        try:
            ours.install()
            frames, metadata = load_video(str(clip), num_frames=8, backend="opencv")
            tensor, _ = load_video(str(clip), num_frames=8, backend="torchcodec")
        finally:
            VIDEO_DECODERS.clear()
            VIDEO_DECODERS.update(before)
        assert metadata.video_backend == "framerail" and list(metadata.frames_indices) == list(known.frames_indices)
        assert (metadata.total_num_frames, metadata.height, metadata.width) == (known.total_num_frames, known.height, known.width)
        assert metadata.fps == pytest.approx(known.fps) and metadata.duration == pytest.approx(known.duration)
        assert torch.equal(tensor, wanted) and torch.equal(torch.from_numpy(frames).permute(0, 3, 1, 2), wanted)

    @pytest.mark.parametrize("replaced", ["transformers", "torchcodec"])
    def test_a_video_processor(self, clip, tmp_path, replaced):
        """A model's video processor, from a path to the model's input: the same numbers."""
        pytest.importorskip("transformers")
        pytest.importorskip("torchcodec")
        program = f"""
from transformers import Qwen2VLVideoProcessor
processor = Qwen2VLVideoProcessor(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 64)
made = processor(videos=[{str(clip)!r}], do_sample_frames=True, num_frames=8, return_tensors="pt", return_metadata=True)
frames = list(made["video_metadata"][0].frames_indices)
result = [made["pixel_values_videos"], made["video_grid_thw"], torch.tensor([int(n) for n in frames])]
"""
        wanted, ours = run(program, tmp_path / "0.pt"), run(INSTALL.format(replaced) + program, tmp_path / "1.pt")
        assert wanted[0].shape[0] > 0
        assert all(torch.equal(a, b) for a, b in zip(wanted, ours))


def test_a_video_column_of_datasets(clip, tmp_path):
    """Paths and files in memory, through a Parquet file, decoded by the column itself."""
    pytest.importorskip("datasets")
    pytest.importorskip("torchcodec")
    program = f"""
import datasets, os, torch, tempfile
datasets.disable_progress_bars()
clip = {str(clip)!r}
files = [{{"bytes": None, "path": clip}}, {{"bytes": open(clip, "rb").read(), "path": None}}]
column = datasets.Dataset.from_dict({{"video": files}}).cast_column("video", datasets.Video())
with tempfile.TemporaryDirectory() as folder:
    column.to_parquet(os.path.join(folder, "a.parquet"))
    column = datasets.Dataset.from_parquet(os.path.join(folder, "a.parquet"), cache_dir=folder)
    result = []
    for row in column:
        decoder = row["video"]
        result += [decoder[3], decoder.get_frames_at([40, 2]).data, torch.tensor([decoder.metadata.num_frames])]
"""
    wanted, found = run_both(program, tmp_path)
    assert len(wanted) == 6 and all(torch.equal(a, b) for a, b in zip(wanted, found))


class TestLeRobot:
    @pytest.fixture(scope="class")
    def recorded(self, tmp_path_factory):
        """A dataset as LeRobot records it: two episodes with a camera."""
        pytest.importorskip("lerobot")
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        root = tmp_path_factory.mktemp("lerobot") / "set"
        features = {
            "observation.images.front": {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]},
            "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        }
        dataset = LeRobotDataset.create("local/set", fps=20, root=root, features=features, use_videos=True, vcodec="h264")
        for episode in range(2):
            for at in range(12):
                image = number_picture(12 * episode + at)
                dataset.add_frame({"observation.images.front": image, "action": np.float32([episode, at]), "task": "count"})
            dataset.save_episode()
        dataset.finalize()
        return root

    def test_items_of_a_dataset(self, recorded, monkeypatch):
        """Items with several times for each, by LeRobot's own decoder and by framerail: the same tensors."""
        from framerail.compat import lerobot as ours
        from lerobot.datasets import lerobot_dataset, streaming_dataset, video_utils

        camera = "observation.images.front"

        def items():
            times = {camera: [-0.1, 0.0, 0.05]}
            dataset = lerobot_dataset.LeRobotDataset("local/set", root=recorded, delta_timestamps=times, video_backend="torchcodec")
            return [dataset[index] for index in (0, 5, 11, 12, 23)]

        wanted = items()
        for module in (lerobot_dataset, video_utils, streaming_dataset):
            for name in ("decode_video_frames", "decode_video_frames_torchcodec"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(module, name))
        ours.install()
        assert lerobot_dataset.decode_video_frames is ours.decode_video_frames
        assert streaming_dataset.decode_video_frames_torchcodec is ours.decode_video_frames
        found = items()
        for a, b in zip(wanted, found):
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a if isinstance(a[key], torch.Tensor))
        assert numbers_of((found[1][camera] * 255).numpy()) == [3, 5, 6]

    def test_a_time_without_a_frame_is_lerobots_own_error(self, recorded):
        from framerail.compat import lerobot as ours
        from lerobot.datasets.video_utils import FrameTimestampError

        video = next(recorded.rglob("*.mp4"))
        with pytest.raises(FrameTimestampError, match="no frame within"):
            ours.decode_video_frames(video, [0.02], 0.001)


class TestVllm:
    def test_its_loader_by_name(self, clip, monkeypatch):
        """VideoMediaIO, as vLLM's server makes it, with the loader that the entry point registers. Needs no GPU."""
        media = pytest.importorskip("vllm.multimodal.media", reason="vLLM is not installed (make test-ecosystem)", exc_type=ImportError)
        from framerail.compat import vllm as ours

        ours.register()
        content = clip.read_bytes()
        for options in ({"num_frames": 8}, {"num_frames": -1, "fps": 5}, {"num_frames": 4, "fps": 5}, {"num_frames": -1}):
            default = media.VideoMediaIO(media.ImageMediaIO(), backend="torchcodec", video_backend="opencv", **options)
            wanted, known = default.load_bytes(content).media
            loader = media.VideoMediaIO(media.ImageMediaIO(), video_backend="framerail", **options)
            frames, metadata = loader.load_bytes(content).media
            np.testing.assert_array_equal(frames, np.asarray(wanted).reshape(frames.shape))
            assert metadata == {**known, "video_backend": "framerail", "fps": pytest.approx(known["fps"])}, options
        monkeypatch.setenv("VLLM_VIDEO_LOADER_BACKEND", "framerail")
        assert media.VideoMediaIO(media.ImageMediaIO()).video_loader.__class__.__name__ == "FramerailVideoLoader"
        monkeypatch.setenv("VLLM_MAX_IMAGE_PIXELS", "1000")
        with pytest.raises(ValueError, match="1000 pixels"):
            media.VideoMediaIO(media.ImageMediaIO(), video_backend="framerail").load_bytes(content)

    def test_the_entry_point_is_in_the_package(self):
        """vLLM finds plugins by this group; of an installed framerail only."""
        try:
            points = importlib.metadata.distribution("framerail").entry_points
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("framerail runs from its sources here")
        assert [p.value for p in points if p.group == "vllm.general_plugins"] == ["framerail.compat.vllm:register"]

    def test_a_stand_in_of_its_registry(self, clip, monkeypatch):
        names = {}

        class Registry:
            def register(self, name, **options):
                return lambda loader: names.setdefault(name, loader)

        video = types.ModuleType("vllm.multimodal.video")
        video.VIDEO_LOADER_REGISTRY, video.VideoLoader = Registry(), type("VideoLoader", (), {})
        modules = {"vllm": types.ModuleType("vllm"), "vllm.multimodal": types.ModuleType("m"), "vllm.multimodal.video": video}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "vllm.multimodal.video_decoders", raising=False)
        from framerail.compat import vllm

        vllm.register()
        frames, metadata = names["framerail"].load_bytes(clip.read_bytes(), num_frames=4, max_duration=300)
        assert numbers_of(frames, "THWC") == metadata["frames_indices"] == [0, 19, 39, 59]
        assert (metadata["total_num_frames"], metadata["do_sample_frames"]) == (60, False) and metadata["fps"] == pytest.approx(25)
        assert names["framerail"].load_bytes(clip.read_bytes(), fps=2)[0].shape == (4, HEIGHT, WIDTH, 3)
        assert vllm.load_bytes(clip.read_bytes(), 2, max_pixels=28 * 28 * 6, multiple_of=28)[0].shape == (2, 56, 56, 3)


def test_torchvision_transforms_of_a_readers_tensors(clip):
    """transforms.v2 over frames of framerail's and of TorchCodec's: the same tensors."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    real = pytest.importorskip("torchcodec")
    from torchvision import tv_tensors

    steps = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(48), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])])
    numbers = [0, 17, 40]
    wanted = steps(real.decoders.VideoDecoder(clip).get_frames_at(numbers).data)
    with fr.VideoReader(clip, output="torch", exact="swscale") as reader:
        frames = reader.read(numbers).data
    assert torch.equal(steps(frames), wanted)
    assert torch.equal(steps(tv_tensors.Video(frames)), wanted)


def test_kornia_on_a_readers_tensors(clip):
    kornia = pytest.importorskip("kornia")
    real = pytest.importorskip("torchcodec")
    numbers = list(range(4, 12))
    theirs = real.decoders.VideoDecoder(clip).get_frames_at(numbers).data.float() / 255
    with fr.VideoReader(clip, output="torch", exact="swscale") as reader:
        ours = reader.read(numbers).data.float() / 255
    steps = kornia.augmentation.VideoSequential(
        kornia.augmentation.RandomHorizontalFlip(p=1.0), kornia.augmentation.ColorJiggle(0.1, 0.1, 0.1, 0.1, p=1.0), data_format="BTCHW"
    )
    results = []
    for frames in (theirs, ours):
        torch.manual_seed(3)
        results.append(steps(frames[None]))
    assert results[0].shape == (1, 8, 3, HEIGHT, WIDTH) and torch.equal(*results)
    gray = kornia.color.rgb_to_grayscale(ours)
    assert gray.shape == (8, 1, HEIGHT, WIDTH)


def test_lightnings_trainer_over_a_loader(tmp_path):
    """A fit with framerail's loader, unchanged: every clip of each epoch once, and a second epoch in another order."""
    lightning = pytest.importorskip("lightning")
    from framerail.torch import ClipDataset, ClipLoader

    clips = [make_clip(tmp_path / f"{at}.mp4", frames=20, first=32 * at) for at in range(6)]
    dataset = ClipDataset(clips, num_clips=1, policy="regular", frames_per_clip=4, stride=2, seed=5)
    loader = ClipLoader(dataset, batch_size=2, shuffle=True)
    seen = []

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, index):
            frames = batch["frames"]
            seen.append((self.current_epoch, [numbers_of(clip.numpy())[0] // 32 for clip in frames]))
            return ((frames.float().mean() / 255 - self.weight) ** 2).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(Model(), loader)
    orders = [[number for epoch, numbers in seen if epoch == at for number in numbers] for at in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(6)) and orders[0] != orders[1]
    loader.close()


def test_lines_of_the_page_on_switching_run(av_clip, tmp_path):
    """Every block of Python on docs/switching.md, one after the other in one process; remote files are left out."""
    for needed in ("torchcodec", "qwen_vl_utils", "transformers", "datasets", "lerobot"):
        pytest.importorskip(needed)
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    page = (Path(sources) / "docs/switching.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "s3://" not in block]
    assert len(blocks) >= 9
    shutil.copy(av_clip, tmp_path / "in.mp4")
    messages = [{"role": "user", "content": [{"type": "video", "video": "in.mp4", "nframes": 4}]}]
    program = f"""
import transformers, transformers.video_utils, qwen_vl_utils
for number, block in enumerate({blocks!r}):
    try:
        exec(compile(block, f"block {{number}} of switching.md", "exec"), {{
            "messages": {messages!r}, "transformers": transformers, "qwen_vl_utils": qwen_vl_utils}})
    except BaseException as error:
        raise SystemExit(f"{{block}}: {{error!r}}")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=tmp_path)
