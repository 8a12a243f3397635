"""User models as stages of pipelines."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import _framerail
from .arrays import handed_over, has_torch
from .batch import ItemBatch
from .batch import Mapping as Placing
from .options import OUTPUTS, Preprocess, bad, choice, dtype_name, real, whole
from .postprocess import Decoder, without_padding

# Unused CUDA streams of each GPU. PyTorch caches memory by stream: with new streams each run would allocate again.
_idle_streams: Dict[str, List[Tuple[Any, Any]]] = {}


def _torch() -> Any:
    """PyTorch, if it is installed."""
    if "torch" in sys.modules or importlib.util.find_spec("torch") is not None:
        import torch

        return torch
    return None


def _warn(message: str) -> None:
    """Warns at the user's call of ``Pipeline.run`` or ``edges``."""
    warnings.warn(message, UserWarning, stacklevel=4)


class ModelRunner:
    """A model as the compiled part calls it: prepared while the pipeline links, then called from one thread."""

    def __init__(
        self,
        name: str,
        model: Any,
        preprocess: Optional[Preprocess],
        postprocess: Any,
        labels: Sequence[str],
        confidence: Optional[float],
        top_k: int,
        autocast: Any,
        arrays: str,
    ) -> None:
        if not callable(model):
            raise bad("model", model, "a torch.nn.Module, or any function of one argument")
        if preprocess is not None and not isinstance(preprocess, Preprocess):
            raise bad("preprocess", preprocess, "a framerail.Preprocess")
        if confidence is not None:
            confidence = real("confidence", confidence, "None or a number from 0 to 1")
        self.name = name
        self.labels = [str(label) for label in labels]
        self.depth = 1
        self._model: Any = model
        self._confidence = confidence
        self._preprocess = Preprocess() if preprocess is None else preprocess
        self._decode = Decoder(name, postprocess, self.labels, confidence, whole("top_k", top_k, 1))
        self._arrays = choice("arrays", arrays, OUTPUTS)
        self._autocast = None if autocast is None else dtype_name(autocast)
        self._device = "cpu"
        self._takes_list = False
        self._streams: Optional[Tuple[Any, Any]] = None
        self._in_training: List[Any] = []
        torch = _torch()
        if self._arrays == "torch" and torch is None:
            raise bad("arrays", arrays, "'numpy': PyTorch is not installed")
        if self._autocast is not None and (torch is None or self._autocast not in ("float16", "bfloat16")):
            raise bad("autocast", autocast, "None, 'float16' or 'bfloat16', with PyTorch")
        self._is_module = torch is not None and isinstance(model, torch.nn.Module)

    def _first_weight(self) -> Any:
        return next((weight for weight in self._model.parameters() if weight.is_floating_point()), None) if self._is_module else None

    @property
    def own_device(self) -> Optional[str]:
        """The GPU of a module's weights; None for the host, and for other functions."""
        weight = self._first_weight()
        return f"cuda:{weight.device.index or 0}" if weight is not None and weight.is_cuda else None

    @property
    def confidence(self) -> Optional[float]:
        """Minimum score of a detection; None if the user's function decodes the outputs."""
        return self._decode.confidence

    @confidence.setter
    def confidence(self, value: Optional[float]) -> None:
        self._decode.confidence = value

    def prepare(self, device: str) -> None:
        """Sets the device of frames; warns of what ``start`` has to change."""
        self._device = device
        self.depth = 1 if device == "cpu" else 2
        # An earlier run may have used another device.
        self.confidence = self._confidence
        if not self._is_module:
            return
        weight = self._first_weight()
        if weight is not None and str(weight.device) != device:
            _warn(f"model {self.name!r} is moved from {weight.device} to {device}, where the frames are. Call to({device!r}) on it before")
        if self._model.training:
            _warn(f"model {self.name!r} is in training mode; the run uses it in evaluation mode. Call eval() on it before")
        self._takes_list = takes_list(self._model)

    def output_json(self) -> str:
        """Conversion of frames to the input; the default dtype is that of the weights."""
        weight = self._first_weight()
        own = "float32" if weight is None else str(weight.dtype)[len("torch.") :]
        return self._preprocess._json(own if own in ("float16", "bfloat16") else "float32")

    def start(self) -> None:
        """Prepares a module for inference on the device of frames."""
        torch = _torch()
        if self._is_module:
            self._model.to(self._device)
            self._in_training = [module for module in self._model.modules() if module.training]
            self._model.eval()
        if torch is None or self._device == "cpu":
            return
        # The model's stream, and one for results: reading them waits for their batch, not for the next one.
        try:
            work, results = _idle_streams.get(self._device, []).pop()
        except IndexError:
            work, results = torch.cuda.Stream(self._device), torch.cuda.Stream(self._device, priority=-1)
        # The weights may still be being copied.
        work.wait_stream(torch.cuda.default_stream(self._device))
        self._streams = (work, results)

    def finish(self) -> None:
        if self._streams:
            _idle_streams.setdefault(self._device, []).append(self._streams)
        self._streams = None
        # The training state of each module: some may be in evaluation mode on purpose.
        for module in self._in_training:
            module.training = True
        self._in_training = []

    def _under(self, stream: Any) -> Any:
        """Inference without gradients, on a stream of the GPU."""
        torch = _torch()
        stack = contextlib.ExitStack()
        if torch is not None:
            stack.enter_context(torch.inference_mode())
            if stream is not None:
                stack.enter_context(torch.cuda.device(self._device))
                stack.enter_context(torch.cuda.stream(stream))
        return stack

    def submit(self, tensor: _framerail.Tensor, frames: List[_framerail.FrameItem], mappings: List[Placing], areas: List[Any]) -> Any:
        """Calls the model; on a GPU the work is queued."""
        stream = self._streams[0] if self._streams else None
        done = None
        with self._under(stream):
            # On a GPU without a library that can hold its memory, the model gets framerail's own tensor.
            plain = "dlpack" if self._arrays == "auto" and not has_torch() and self._device != "cpu" else self._arrays
            data = handed_over(tensor, plain)
            with self._cast():
                outputs = self._model(list(data) if self._takes_list else data)
            if len(frames) < tensor.shape[0]:
                outputs = without_padding(outputs, tensor.shape[0], len(frames))
                data = data if plain == "dlpack" else data[: len(frames)]
            if stream is not None:
                done = stream.record_event()
        return outputs, ItemBatch(frames, data, mappings, areas), done

    def _cast(self) -> Any:
        if self._autocast is None:
            return contextlib.nullcontext()
        torch = _torch()
        return torch.autocast(self._device.split(":")[0], dtype=getattr(torch, self._autocast))

    def collect(self, token: Any) -> List[List[_framerail.Detection]]:
        """The detections of a batch; waits for it."""
        outputs, batch, done = token
        if self._streams is None:
            with self._under(None):
                return self._decode(outputs, batch)
        work, results = self._streams
        with self._under(results):
            results.wait_event(done)
            found = self._decode(outputs, batch)
        # The memory of input and outputs is reused on the model's stream: not before the queued work has read it.
        work.wait_stream(results)
        return found


def takes_list(model: Any) -> bool:
    """Whether a module takes a list of images, as torchvision's detection models do."""
    torch = _torch()
    if isinstance(model, torch.jit.ScriptModule):
        arguments = model.forward.schema.arguments
        return len(arguments) > 1 and str(arguments[1].type).startswith("List[Tensor")
    inner = getattr(model, "_orig_mod", model)
    return type(inner).__module__.startswith("torchvision.models.detection")
