"""PyTorch models as stages of pipelines: modules, TorchScript, compiled ones, and SSD from torchvision from video to boxes."""

import importlib.util
import json
import os
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import framerail as fr  # noqa: E402
import numpy as np  # noqa: E402
from clips import HEIGHT, WIDTH, make_clip  # noqa: E402

pytestmark = [pytest.mark.usefixtures("no_hang"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Classifier(torch.nn.Module):
    """Logits of three classes: mean red, green, blue."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(10.0))
        self.frozen = torch.nn.Identity()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(2, 3)) * self.scale


def run(clip, model, batch=16, frames=20, **options):
    """The detections of each frame."""
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! sample count={frames} every=1 ! torch m batch={batch} ! null")
    found = []
    pipeline.model("m", model, **options).on("m", lambda items: found.append(items[0].detections))
    pipeline.run()
    return found


def test_a_module_is_called_without_gradients_on_its_own_thread(clip):
    model = Classifier().train()
    seen = []

    def look(module, arguments):
        (pictures,) = arguments
        facts = (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), threading.current_thread() is threading.main_thread())
        seen.append((tuple(pictures.shape), pictures.dtype, pictures.is_contiguous(), module.training, facts))

    model.register_forward_pre_hook(look)
    model.frozen.eval()
    with pytest.warns(UserWarning, match="training mode") as warned:
        found = run(clip, model, labels=["red", "green", "blue"], preprocess=fr.Preprocess(size=(40, 60)))
    # As it was before, part by part.
    assert model.training and not model.frozen.training and len(warned) == 1
    own = ((True, False, False), False)
    assert seen == [((16, 3, 40, 60), torch.float32, True, own[1], own[0]), ((4, 3, 40, 60), torch.float32, True, own[1], own[0])]
    frames = fr.VideoReader(clip, size=(40, 60), dtype="float32", normalize=True).read_frames(range(20))
    with torch.inference_mode():
        expected = model(frames).softmax(dim=1)
    for (one,), share in zip(found, expected):
        assert one.label_id == int(share.argmax()) and one.score == pytest.approx(float(share.max()), abs=1e-6)
        assert one.label == ["red", "green", "blue"][one.label_id] and len(one.attributes[0].classes) == 3


def test_runs_one_after_another_call_their_models_on_one_thread(clip):
    threads = []

    def model(pictures):
        threads.append(threading.get_ident())
        return torch.zeros(len(pictures), 3)

    for _ in range(3):
        run(clip, model, frames=16)
    assert len(threads) == 3 and len(set(threads)) == 1, "what PyTorch keeps by thread serves the next run"


def test_frames_are_handed_over_without_a_copy(clip):
    def model(tensor):
        assert torch.from_dlpack(tensor).data_ptr() == np.asarray(tensor).ctypes.data == tensor.address
        return torch.zeros(len(tensor), 3)

    run(clip, model, arrays="dlpack")
    run(clip, lambda pictures: torch.zeros(len(pictures), 3) if isinstance(pictures, torch.Tensor) else None)


def test_memory_that_the_model_keeps_is_not_written_again(clip):
    kept = []

    def model(pictures):
        kept.append(pictures)
        return torch.zeros(len(pictures), 3)

    run(clip, model, batch=4, frames=60, preprocess=fr.Preprocess(dtype="uint8", normalize=None))
    expected = fr.VideoReader(clip).read_frames(range(60))
    assert torch.equal(torch.cat(kept), expected)


def test_a_model_in_training_mode_is_announced_and_gets_its_mode_back(clip):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.modes = []

        def forward(self, frames):
            self.modes.append(self.training)
            return {"boxes": torch.zeros(0, 4)} if frames.ndim == 3 else [{"boxes": torch.zeros(0, 4)} for _ in frames]

    model = Model().train()
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null").model("m", model, postprocess=lambda found, batch: found)
    with pytest.warns(UserWarning, match="is in training mode"):
        pipeline.run()
    assert model.training and not any(model.modes)


def test_types_follow_the_weights(clip):
    types = []

    class Half(Classifier):
        def forward(self, pictures):
            types.append(pictures.dtype)
            return super().forward(pictures)

    run(clip, Half().bfloat16())
    run(clip, Half(), preprocess=fr.Preprocess(dtype=torch.float16))
    assert set(types[:2]) == {torch.bfloat16} and set(types[2:]) == {torch.float16}

    linear = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))
    outputs = []

    def classes(output, batch):
        outputs.append(output.dtype)
        return [[]] * len(batch)

    run(clip, linear, autocast=torch.bfloat16, postprocess=classes)
    assert set(outputs) == {torch.bfloat16}


def test_scripted_and_compiled_models(clip):
    class TakesList(torch.nn.Module):
        def forward(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
            labels = torch.ones(1, dtype=torch.int64)
            return [{"boxes": boxes, "scores": picture.mean().reshape(1), "labels": labels} for picture in pictures]

    plain = run(clip, Classifier())
    scores = [one.score for (one,) in plain]
    for model in (torch.jit.script(Classifier()), torch.compile(Classifier(), backend="eager")):
        assert [one.score for (one,) in run(clip, model)] == pytest.approx(scores, abs=1e-6)
    scripted = run(clip, torch.jit.script(TakesList()), preprocess=fr.Preprocess(size=(16, 16)))
    assert all(one.bbox_xyxy == (0, 0, WIDTH / 2, HEIGHT / 2) and one.label_id == 1 for (one,) in scripted)


def test_masks_and_keypoints_of_torchvision_s_form(clip):
    def model(pictures):
        masks = torch.zeros(1, 1, 48, 64)
        masks[..., 10:20, 8:24] = 0.9
        one = {
            "boxes": torch.tensor([[8.0, 10.0, 24.0, 20.0]]), "scores": torch.tensor([0.8]), "labels": torch.tensor([1]),
            "masks": masks, "keypoints": torch.tensor([[[10.0, 12.0, 1.0], [20.0, 18.0, 1.0]]]),
        }  # fmt: skip
        return [one] * len(pictures)

    (one,) = run(clip, model, preprocess=fr.Preprocess(size=(48, 64)))[0]
    (attribute,) = one.attributes
    assert one.bbox_xyxy == attribute.mask.bbox_xyxy == (16, 20, 48, 40) and one.landmarks == [(20, 24), (40, 36)]
    assert attribute.mask.coverage.shape == (10, 16) and (attribute.mask.coverage == 230).all()
    assert run(clip, model, confidence=0.9)[0] == []


def example(name):
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    spec = importlib.util.spec_from_file_location(name, Path(sources) / "examples" / "python" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("ssd") / "footage.mp4", frames=4, width=320, height=240)


@pytest.fixture(scope="module")
def ssd():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: the SSD example was NOT tested (make test-torch installs it)")
    made = example("ssd_torch")
    model = made.detector("none").eval()
    with torch.no_grad():
        for layer in model.head.classification_head.module_list:
            # Random weights see objects everywhere: more background leaves a few.
            layer.bias.view(-1, 91)[:, 0] += BACKGROUND
    return made, model


BACKGROUND = 24.0


def scaled(result, width, height):
    return result["boxes"] * torch.tensor([width / 300, height / 300] * 2), result["scores"], result["labels"]


def test_ssd_from_video_to_boxes(ssd, footage, tmp_path, capsys):
    """The example's boxes are those of torchvision on the same frames."""
    made, model = ssd
    out = tmp_path / "boxes.jsonl"
    counts = made.detect(str(footage), str(out), model, batch=2)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    found = [line["detections"] for line in lines if "detections" in line]
    assert len(found) == 4 and sum(counts.values()) == sum(map(len, found)) > 0 and "4 frames" in capsys.readouterr().out
    frames = fr.VideoReader(footage, **made.PREPROCESS.options).read_frames(range(4))
    with torch.inference_mode():
        expected = [result for part in frames.split(2) for result in model(list(part))]
    for boxes, result in zip(found, expected):
        edges, scores, labels = scaled(result, 320, 240)
        assert [box["label"] for box in boxes] == [made.LABELS[label] for label in labels]
        assert np.allclose(np.reshape([box["box"] for box in boxes], (-1, 4)), edges, atol=1e-3)
        assert np.allclose([box["score"] for box in boxes], scores, atol=1e-3)


def test_calls_that_are_filled_up_have_one_shape_and_the_same_results(clip):
    shapes = []

    class Pair(Classifier):
        def forward(self, pictures):
            shapes.append(tuple(pictures.shape))
            logits = super().forward(pictures)
            return {"logits": logits, "maps": [pictures[:, :1], pictures[:, 1:]]}

    def decode(outputs, batch):
        assert len(batch.data) == len(batch) == len(outputs["logits"]) == len(outputs["maps"][1])
        return [[fr.Detection((0, 0, 8, 8), float(row.softmax(0).max()))] for row in outputs["logits"]]

    plain = run(clip, Pair(), postprocess=decode)
    assert [shape[0] for shape in shapes] == [16, 4]
    shapes.clear()
    padded = run(clip, Pair(), batch="16 pad=yes", postprocess=decode)
    assert [shape[0] for shape in shapes] == [16, 16]
    assert [[one.score for one in found] for found in padded] == [[one.score for one in found] for found in plain] and len(plain) == 20


def test_padding_is_cut_off_outputs_of_every_form():
    from collections import OrderedDict, namedtuple

    from framerail.postprocess import without_padding

    rows, one = torch.arange(8).reshape(4, 2), {"boxes": torch.zeros(4, 4), "scores": torch.zeros(4)}
    Named = namedtuple("Named", "logits state")
    cut = without_padding(Named(rows, "kept"), 4, 3)
    assert isinstance(cut, Named) and torch.equal(cut.logits, rows[:3]) and cut.state == "kept"
    cut = without_padding(OrderedDict(a=rows, b=[rows, rows[:1]]), 4, 3)
    assert isinstance(cut, OrderedDict) and len(cut["a"]) == 3 and [len(part) for part in cut["b"]] == [3, 1]
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    assert without_padding([one, one, empty, one], 4, 2) == [one, one], "one entry for each picture"
    assert without_padding((rows, [one, empty, empty, empty]), 4, 1)[1] == [one]
    assert [len(part) for part in without_padding([rows] * 4, 4, 3)] == [3] * 4, "as many outputs as pictures"
