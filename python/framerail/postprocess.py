"""Converts model outputs to detections."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from . import _framerail
from .arrays import all_to_host, to_host
from .batch import ItemBatch
from .lazy import np
from .options import bad

if TYPE_CHECKING:
    import numpy.typing as npt

Found = List[List[_framerail.Detection]]

#: Known forms of outputs, by their names in ``Pipeline.model``.
FORMS = ("detections", "boxes", "classes")


#: Keys of a dict of results.
_RESULT_KEYS = ("boxes", "scores", "labels", "keypoints", "masks")


def without_padding(outputs: Any, rows: int, frames: int) -> Any:
    """Cuts outputs for ``rows`` images to the first ``frames``: in arrays, and in lists, tuples and mappings of them."""

    def is_of_all(value: Any) -> bool:
        if isinstance(value, (Mapping, list, tuple)):
            parts = list(value.values() if isinstance(value, Mapping) else value)
            return bool(parts) and all(is_of_all(part) for part in parts)
        return tuple(getattr(value, "shape", ()))[:1] == (rows,)

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            parts = {name: cut(part) for name, part in value.items()}
            return parts if type(value) is dict else type(value)(**parts)
        if isinstance(value, (list, tuple)):
            # An entry for each image, as in torchvision's detection models.
            if len(value) == rows and not all(is_of_all(part) for part in value):
                return value[:frames]
            cut_parts = [cut(part) for part in value]
            return type(value)(*cut_parts) if hasattr(value, "_fields") else type(value)(cut_parts)
        return value[:frames] if is_of_all(value) else value

    return cut(outputs)


class Decoder:
    """Converts outputs to detections: by a user function, or by a named or detected form."""

    def __init__(self, name: str, given: Any, labels: Sequence[str], confidence: Optional[float], top_k: int):
        if given is not None and not callable(given) and given not in FORMS:
            raise bad("postprocess", given, "a function of outputs and batch, None, " + ", ".join(map(repr, FORMS)))
        self._name, self._given, self._labels, self._confidence, self._top_k = name, given, labels, confidence, top_k

    @property
    def confidence(self) -> Optional[float]:
        """Minimum score of a detection; None if the user's function decides."""
        return None if callable(self._given) else self._confidence or 0.0

    @confidence.setter
    def confidence(self, value: Optional[float]) -> None:
        self._confidence = value

    def __call__(self, outputs: Any, batch: ItemBatch) -> Found:
        if callable(self._given):
            return self._results(self._given(outputs, batch), batch)
        form = self._given or recognised(self._name, outputs, len(batch))
        decode: Dict[str, Callable[[Any, ItemBatch], Found]] = {
            "detections": self._detections,
            "boxes": self._boxes,
            "classes": self._classes,
        }
        return decode[form](outputs, batch)

    def _label(self, number: int) -> str:
        return self._labels[number] if 0 <= number < len(self._labels) else str(number)

    def _results(self, results: Any, batch: ItemBatch) -> Found:
        """The return value of a user function, in frame pixels."""
        if isinstance(results, (str, Mapping)) or not isinstance(results, Sequence):
            raise ValueError(f"postprocess of {self._name!r} returned {form_of(results)}; return a list with an entry for each frame")
        if len(results) != len(batch):
            raise ValueError(f"postprocess of {self._name!r} returned {len(results)} entries for {len(batch)} frames; return one for each")
        return [self._result(result, place) for place, result in enumerate(results)]

    def _result(self, result: Any, place: int) -> List[_framerail.Detection]:
        if result is None:
            return []
        if isinstance(result, Mapping):
            if "boxes" not in result:
                raise ValueError(f"postprocess of {self._name!r}: frame {place} is a dict without 'boxes'")
            unknown = next((name for name in result if name not in _RESULT_KEYS), None)
            if unknown is not None:
                near = difflib.get_close_matches(str(unknown), _RESULT_KEYS, 1)
                hint = f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(map(repr, _RESULT_KEYS))
                raise ValueError(f"postprocess of {self._name!r}: frame {place} has the key {unknown!r}; {hint}")
            arrays = {name: to_host(value) if name != "labels" else value for name, value in result.items()}
            count = len(arrays["boxes"])
            scores = arrays.get("scores", np.ones(count, np.float32))
            labels = arrays.get("labels", [0] * count)
            labels = to_host(labels).tolist() if hasattr(labels, "dtype") else list(labels)
            masks = arrays.get("masks")
            return self._made(arrays["boxes"], scores, labels, arrays.get("keypoints"), masks, None)
        if isinstance(result, Sequence) and all(isinstance(one, _framerail.Detection) for one in result):
            return list(result)
        what = form_of(result)
        raise ValueError(f"postprocess of {self._name!r}: frame {place} is {what}; return a list of framerail.Detection, or a dict")

    def _made(
        self, boxes: npt.NDArray[Any], scores: npt.NDArray[Any], labels: Sequence[Any], keypoints: Any, masks: Any, to_frame: Optional[Callable[[Any], Any]]
    ) -> List[_framerail.Detection]:
        """Detections from arrays; ``to_frame`` maps model pixels to frame pixels."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        place: Callable[[Any], Any] = to_frame or (lambda places: places)
        in_frame = np.asarray(place(boxes), np.float32).tolist()
        points = None if keypoints is None else np.asarray(place(np.asarray(keypoints, np.float32)[..., :2]), np.float32).tolist()
        found = []
        for at, (edges, score, label) in enumerate(zip(in_frame, np.asarray(scores, np.float32).tolist(), labels)):
            name, number = (label, 0) if isinstance(label, str) else (self._label(int(label)), max(int(label), 0))
            attributes = []
            if masks is not None:
                mask = cut_out(masks[at], boxes[at], place)
                attributes = [] if mask is None else [_framerail.Attribute(self._name, mask=mask)]
            landmarks = [] if points is None else [tuple(point) for point in points[at]]
            found.append(
                _framerail.Detection(tuple(edges), score, name, label_id=number, landmarks=landmarks, attributes=attributes)
            )
        return found

    def _detections(self, outputs: Any, batch: ItemBatch) -> Found:
        """torchvision's form: a dict for each frame, in pixels of the model's input."""
        names = ("boxes", "scores", "labels")
        boxes, scores, labels = (all_to_host([one[name] for one in outputs]) for name in names)
        found = []
        for place, one in enumerate(outputs):
            keep = np.arange(len(scores[place])) if self._confidence is None else np.flatnonzero(scores[place] >= self._confidence)
            keypoints = to_host(one["keypoints"])[keep] if "keypoints" in one else None
            masks = mask_bytes(one["masks"], keep) if "masks" in one else None
            kept = (boxes[place][keep], scores[place][keep], labels[place][keep].tolist())
            found.append(self._made(*kept, keypoints, masks, functools.partial(batch.to_frame, frame=place)))
        return found

    def _boxes(self, outputs: Any, batch: ItemBatch) -> Found:
        """Rows of left, top, right, bottom, score and class, in pixels of the model's input; rows of score 0 are padding."""
        rows: Sequence[Any] = outputs if isinstance(outputs, (list, tuple)) else [outputs] if outputs.ndim == 2 else list(outputs)
        least = self._confidence or 0.0
        found = []
        for place, frame in enumerate(all_to_host(rows)):
            kept = frame[(frame[:, 4] > 0.0) & (frame[:, 4] >= least)]
            to_frame = functools.partial(batch.to_frame, frame=place)
            found.append(self._made(kept[:, :4], kept[:, 4], kept[:, 5].astype(int).tolist(), None, None, to_frame))
        return found

    def _classes(self, outputs: Any, batch: ItemBatch) -> Found:
        """Logits or probabilities of classes: one detection, the whole frame, with its classes as an attribute."""
        values = probabilities(to_host(getattr(outputs, "logits", outputs)))
        count = min(self._top_k, values.shape[1])
        found = []
        for frame, area, row in zip(batch, batch.areas, values):
            best = np.argsort(-row, kind="stable")[:count]
            classes = [(self._label(int(number)), float(row[number]), int(number)) for number in best]
            classes = [one for at, one in enumerate(classes) if at == 0 or self._confidence is None or one[1] >= self._confidence]
            (label, score, number) = classes[0]
            whole = area or (0.0, 0.0, float(frame.width), float(frame.height))
            attributes = [_framerail.Attribute(self._name, classes=classes)]
            is_sure = self._confidence is None or score >= self._confidence
            found.append([_framerail.Detection(whole, score, label, label_id=number, attributes=attributes)] if is_sure else [])
        return found


def probabilities(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Softmax over classes, unless the values are probabilities."""
    values = values.astype(np.float32)
    if values.size and values.min() >= 0.0 and np.allclose(values.sum(axis=1), 1.0, atol=1e-3):
        return values
    raised: npt.NDArray[Any] = np.exp(values - values.max(axis=1, keepdims=True))
    normalised: npt.NDArray[Any] = raised / raised.sum(axis=1, keepdims=True)
    return normalised


def mask_bytes(masks: Any, keep: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Masks [n, (1,) H, W] of 0 to 1 as bytes; scaled down on their device, before they are copied to the host."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(masks, torch.Tensor):
        chosen = masks[torch.from_numpy(keep).to(masks.device)].float().clamp(0, 1).mul(255).round().to(torch.uint8)
        chosen = to_host(chosen)
    else:
        chosen = np.rint(np.clip(np.asarray(masks, np.float32)[keep], 0, 1) * 255).astype(np.uint8)
    masks_of: npt.NDArray[Any] = chosen[:, 0] if chosen.ndim == 4 else chosen
    return masks_of


def cut_out(mask: Any, box: npt.NDArray[Any], place: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Optional[_framerail.InstanceMask]:
    """The part of a mask [H, W] of pixels inside its box."""
    rows, columns = mask.shape
    x1, y1 = np.clip(np.floor(box[:2]), 0, (columns, rows)).astype(int)
    x2, y2 = np.clip(np.ceil(box[2:]), 0, (columns, rows)).astype(int)
    if x1 >= x2 or y1 >= y2:
        return None
    edges = np.asarray(place(np.array([[x1, y1, x2, y2]], np.float32)), np.float32)[0]
    return _framerail.InstanceMask(tuple(edges.tolist()), mask[y1:y2, x1:x2])


def recognised(name: str, outputs: Any, frames: int) -> str:
    """Detects the form of outputs.

    Raises
    ------
    ValueError
        For a form that is not known, or could be two.
    """
    known = (
        "a list of dicts with boxes, scores and labels, as torchvision's detection models give it; [frames, rows, 6] or a list of "
        "[rows, 6] of left, top, right, bottom, score and class; [frames, classes] of logits"
    )
    shape = tuple(getattr(getattr(outputs, "logits", outputs), "shape", ()))
    if isinstance(outputs, (list, tuple)) and len(outputs) == frames:
        if all(isinstance(one, Mapping) and {"boxes", "scores", "labels"} <= set(one) for one in outputs):
            return "detections"
        if all(len(getattr(one, "shape", ())) == 2 and one.shape[1] == 6 for one in outputs):
            return "boxes"
    if len(shape) == 3 and shape[0] == frames and shape[2] == 6:
        return "boxes"
    if len(shape) == 2 and shape[1] == 6:
        if shape[0] == frames:
            what = f"{frames} frames with logits of 6 classes, or boxes"
            raise ValueError(f"outputs of {name!r} of shape {list(shape)} may be {what}; set postprocess='classes' or 'boxes'")
        if frames == 1:
            return "boxes"
    elif len(shape) == 2 and shape[0] == frames and shape[1] > 1:
        return "classes"
    raise ValueError(
        f"outputs of {name!r} are {form_of(outputs)} for {frames} frames, an unknown form; "
        f"set postprocess to a function. Known forms: {known}"
    )


def form_of(outputs: Any, depth: int = 0) -> str:
    """Describes a value for error messages."""
    shape = getattr(outputs, "shape", None)
    if shape is not None:
        return f"{type(outputs).__name__} {list(shape)}"
    if isinstance(outputs, Mapping):
        parts = [f"{key}: {form_of(value, depth + 1)}" if depth < 2 else str(key) for key, value in outputs.items()]
        return "a dict of " + ", ".join(parts)
    if isinstance(outputs, (list, tuple)):
        first = form_of(outputs[0], depth + 1) if outputs and depth < 2 else "nothing"
        return f"a {type(outputs).__name__} of {len(outputs)}" + (f", the first {first}" if outputs else "")
    return f"a {type(outputs).__name__}"
