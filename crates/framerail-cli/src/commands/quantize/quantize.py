"""Quantises an ONNX model with ONNX Runtime's tools, as `framerail quantize` asks.

    python quantize.py FOLDER

FOLDER holds model.onnx and calibration inputs (NNNN-INDEX.npy, with the names of the inputs in inputs.json). Commands come as lines of
JSON on standard input, and each is answered with a line of JSON on standard output: {"ok": ...} or {"error": "one line"}.
"""

import json
import os
import signal
import sys
from pathlib import Path

# Default operator set of the result: the first in which scales for each channel have an axis is 13.
OPSET = 17
MIN_OPSET = 13

# Without any of these there is nothing to gain.
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Stop(Exception):
    """Something that the user has to know, in one line."""


def load_tools():
    """ONNX Runtime's quantisation tools, or what is missing."""
    try:
        import numpy
        import onnx
        import onnx.version_converter
        import onnxruntime
        import onnxruntime.quantization as tools
        from onnxruntime.quantization.calibrate import create_calibrator
    except ImportError as error:
        raise Stop(f"{error.name or error} is missing in {sys.executable}") from error
    onnxruntime.set_default_logger_severity(3)
    return numpy, onnx, onnxruntime, tools, create_calibrator


class Quantizer:
    """The float model, its calibration, and the layers that may become int8."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.numpy, self.onnx, self.onnxruntime, self.tools, self.create_calibrator = load_tools()
        self.inputs = []
        self.layers = []
        self.float_model = folder / "float.onnx"
        self.ranges = None

    def session(self, model: Path, optimized: Path | None = None):
        options = self.onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if optimized is not None:
            options.graph_optimization_level = self.onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(optimized)
        return self.onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def prepare(self) -> dict:
        """Raises the operator set where scales for each channel need it, and folds batch norms into convolutions."""
        self.inputs = json.loads((self.folder / "inputs.json").read_text())
        model = self.onnx.load(self.folder / "model.onnx")
        version = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)
        if version < MIN_OPSET:
            try:
                model = self.onnx.version_converter.convert_version(model, OPSET)
            except Exception as error:
                raise Stop(f"operator set {version} cannot be raised to {OPSET}: {error}") from error
        raised = self.folder / "raised.onnx"
        self.onnx.save(model, raised)
        self.session(raised, optimized=self.float_model)
        folded = self.onnx.load(self.float_model)
        # The runtime notes its own operator sets in what it writes; only those in use are kept.
        used = {node.domain for node in folded.graph.node} | {""}
        kept = [opset for opset in folded.opset_import if opset.domain in used]
        del folded.opset_import[:]
        folded.opset_import.extend(kept)
        # Layers are told apart by name, which old exporters leave out.
        names = set()
        for number, node in enumerate(folded.graph.node):
            if not node.name or node.name in names:
                node.name = f"{node.op_type}_{number}"
            names.add(node.name)
        self.onnx.save(folded, self.float_model)
        if not any(node.op_type in PRODUCTS for node in folded.graph.node):
            raise Stop("the model has no convolution or product that could become int8")
        from onnxruntime.quantization.registry import QDQRegistry

        self.layers = [node.name for node in folded.graph.node if node.op_type in QDQRegistry]
        return {"layers": self.layers, "runtime": self.onnxruntime.__version__, "onnx": self.onnx.__version__}

    def feeds(self, limit: int | None = None):
        numbers = sorted({int(path.name.split("-")[0]) for path in self.folder.glob("*.npy")})
        for number in numbers[:limit]:
            yield {
                name: self.numpy.load(self.folder / f"{number:04}-{index}.npy")
                for index, name in enumerate(self.inputs)
            }

    def calibrate(self) -> dict:
        """Measures the range of every value over the calibration inputs."""
        calibrator = self.create_calibrator(
            str(self.float_model), augmented_model_path=str(self.folder / "augmented.onnx")
        )
        feeds = list(range(sum(1 for _ in self.folder.glob("*-0.npy"))))
        iterator = self.feeds()
        # A frame at a time: the calibrator keeps the outputs of everything that one call reads.
        for _ in feeds:
            calibrator.collect_data(Reader(self.tools, [next(iterator)]))
            say({"progress": 1})
        self.ranges = calibrator.compute_data()
        return {"frames": len(feeds)}

    def quantize(self, output: Path, float_layers: list[str], reduce_range: bool) -> dict:
        """Writes the model with all layers in int8 but `float_layers`."""
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry

        nodes = self.onnx.load(self.float_model)
        quantizer = QDQQuantizer(
            nodes,
            per_channel=True,
            reduce_range=reduce_range,
            weight_qType=self.tools.QuantType.QInt8,
            activation_qType=self.tools.QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=list(float_layers),
            op_types_to_quantize=list(QDQRegistry),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(output), False)
        return {"bytes": output.stat().st_size}

    def sensitivity(self, frames: int) -> dict:
        """How much the outputs change when only one layer is int8: the largest relative error of an output, for each layer."""
        feeds = list(self.feeds(frames))
        session = self.session(self.float_model)
        expected = [session.run(None, feed) for feed in feeds]
        errors = {}
        for layer in self.layers:
            alone = self.folder / "alone.onnx"
            self.quantize(alone, [other for other in self.layers if other != layer], False)
            session = self.session(alone)
            found = [session.run(None, feed) for feed in feeds]
            errors[layer] = max(
                self.relative_error(a, b) for outputs in zip(expected, found) for a, b in zip(*outputs)
            )
            say({"progress": 1})
        return {"errors": errors}

    def relative_error(self, expected, found) -> float:
        expected, found = (self.numpy.asarray(array, self.numpy.float64) for array in (expected, found))
        size = float(self.numpy.sqrt(self.numpy.mean(self.numpy.square(expected)))) if expected.size else 0.0
        if expected.shape != found.shape or size == 0.0:
            return 0.0
        return float(self.numpy.sqrt(self.numpy.mean(self.numpy.square(expected - found)))) / size

    def answer(self, command: dict) -> dict:
        match command.pop("do"):
            case "prepare":
                return self.prepare()
            case "calibrate":
                return self.calibrate()
            case "quantize":
                return self.quantize(Path(command["output"]), command["float_layers"], command["reduce_range"])
            case "sensitivity":
                return self.sensitivity(command["frames"])
            case other:
                raise Stop(f"unknown command {other}")


class Reader:
    """Calibration inputs as ONNX Runtime's tools read them."""

    def __init__(self, tools, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def say(message: dict) -> None:
    ANSWERS.write(json.dumps(message) + "\n")
    ANSWERS.flush()


def main() -> int:
    # The program that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        quantizer = Quantizer(Path(sys.argv[1]))
    except Stop as stop:
        say({"missing": str(stop)})
        return 1
    say({"ok": {}})
    for line in sys.stdin:
        try:
            say({"ok": quantizer.answer(json.loads(line))})
        except Exception as error:
            say({"error": " ".join(f"{type(error).__name__ if not isinstance(error, Stop) else ''} {error}".split())})
    return 0


# Tools print to standard output; answers go to where it led.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

if __name__ == "__main__":
    sys.exit(main())
