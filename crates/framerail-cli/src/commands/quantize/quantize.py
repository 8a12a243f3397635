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

# How far ranges of channels are brought together: 1 = to the same range, in which the steps of small channels would be finest, and those of
# the largest coarser by what calibration has not seen. Measured on CenterFace.
EQUALIZATION = 0.7
# Channels with a smaller share of the largest range count as having this share: what is zero in calibration may not be so later.
SMALLEST_RANGE = 0.02

# Runs per layer for its time.
TIMED_RUNS = 3


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
        self.last_layers = []
        self.float_model = folder / "float.onnx"
        self.ranges = None

    def options(self):
        options = self.onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def session(self, model: Path, optimized: Path | None = None):
        options = self.options()
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

        last_layers = self.last_of(folded.graph)
        self.last_layers = [node.name for node in folded.graph.node if node.name in last_layers]
        candidates = (node for node in folded.graph.node if node.op_type in QDQRegistry)
        self.layers = [node.name for node in candidates if node.name not in last_layers]
        versions = {"runtime": self.onnxruntime.__version__, "onnx": self.onnx.__version__}
        return {"layers": self.layers, "last_layers": self.last_layers, **versions}

    def last_of(self, graph) -> set[str]:
        """The layers from the last products to the outputs: their results are scores and positions, and they take little time."""
        producers = {output: node for node in graph.node for output in node.output}
        found, waiting = set(), [output.name for output in graph.output]
        while waiting:
            node = producers.get(waiting.pop())
            if node is None or node.name in found:
                continue
            found.add(node.name)
            if node.op_type not in PRODUCTS:
                waiting.extend(node.input)
        return found

    def depthwise_pairs(self, graph):
        """Convolutions with a depthwise one behind them, the weights of both, and the tensor between."""
        weights = {tensor.name for tensor in graph.initializer}
        uses, outputs = {}, {output.name for output in graph.output}
        for node in graph.node:
            for name in node.input:
                uses.setdefault(name, []).append(node)
        for first in graph.node:
            values = first.output[0]
            behind = uses.get(values, [])
            # Positive factors pass through.
            if len(behind) == 1 and behind[0].op_type in ("Relu", "LeakyRelu") and values not in outputs:
                values = behind[0].output[0]
                behind = uses.get(values, [])
            if first.op_type != "Conv" or len(behind) != 1 or behind[0].op_type != "Conv" or values in outputs:
                continue
            second = behind[0]
            groups = next((attribute.i for attribute in second.attribute if attribute.name == "group"), 1)
            changed = [*first.input[1:], second.input[1]]
            if groups > 1 and all(name in weights and len(uses[name]) == 1 for name in changed):
                yield first, second, groups, values

    def equalize(self) -> dict:
        """Brings the channels of a tensor in front of a depthwise convolution to similar ranges.

        A tensor has one scale, so channels with small values would keep few of its 256 steps. The factors go out of the weights in front and
        into the weights behind, which have a scale for each channel: the results in float32 stay the same.
        """
        model = self.onnx.load(self.float_model)
        pairs = list(self.depthwise_pairs(model.graph))
        shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        # Truly depthwise: each group is one channel.
        pairs = [pair for pair in pairs if shapes[pair[0].input[1]][0] == pair[2] and shapes[pair[1].input[1]][1] == 1]
        largest = self.largest_values(model, [values for *_, values in pairs])
        helper, changed = self.onnx.numpy_helper, {}
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        for first, second, groups, values in pairs:
            share = largest[values] / max(float(largest[values].max()), 1e-12)
            factors = self.numpy.maximum(share, SMALLEST_RANGE) ** EQUALIZATION
            for name in first.input[1:]:
                array = changed.get(name, helper.to_array(weights[name]))
                changed[name] = array / factors.reshape(-1, *[1] * (array.ndim - 1))
            array = changed.get(second.input[1], helper.to_array(weights[second.input[1]]))
            factors = self.numpy.repeat(factors, array.shape[0] // groups)
            changed[second.input[1]] = array * factors.reshape(-1, *[1] * (array.ndim - 1))
        for name, array in changed.items():
            weights[name].CopyFrom(helper.from_array(array.astype(self.numpy.float32), name))
        self.onnx.save(model, self.float_model)
        return {"pairs": len(pairs)}

    def largest_values(self, model, names: list[str]) -> dict:
        """The largest magnitude of each channel over the calibration inputs."""
        measured = self.onnx.ModelProto()
        measured.CopyFrom(model)
        del measured.graph.output[:]
        for name in names:
            magnitude, most = f"{name}/magnitude", f"{name}/most"
            measured.graph.node.append(self.onnx.helper.make_node("Abs", [name], [magnitude]))
            measured.graph.node.append(self.onnx.helper.make_node("GlobalMaxPool", [magnitude], [most]))
            measured.graph.output.append(self.onnx.ValueInfoProto(name=most))
        largest = {}
        if names:
            path = self.folder / "channels.onnx"
            self.onnx.save(measured, path)
            session = self.session(path)
        for feed in self.feeds():
            for name, most in zip(names, session.run(None, feed) if names else []):
                channels = most.max(axis=tuple(axis for axis in range(most.ndim) if axis != 1))
                largest[name] = self.numpy.maximum(largest.get(name, 0.0), channels)
            say({"progress": 1})
        return largest

    def feeds(self, limit: int | None = None):
        numbers = sorted({int(path.name.split("-")[0]) for path in self.folder.glob("*.npy")})
        # Spread over the clips.
        for number in numbers[:: max(1, len(numbers) // (limit or len(numbers) or 1))][:limit]:
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
            nodes_to_exclude=[*float_layers, *self.last_layers],
            op_types_to_quantize=list(QDQRegistry),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(output), False)
        return {"bytes": output.stat().st_size}

    def sensitivity(self, frames: int) -> dict:
        """How much the outputs change when only one layer is int8, and the time that it takes in float32.

        The error is the largest relative error of an output.
        """
        feeds = list(self.feeds(frames))
        session = self.session(self.float_model)
        expected = [session.run(None, feed) for feed in feeds]
        times = self.times(feeds[0])
        layers = []
        for layer in self.layers:
            alone = self.folder / "alone.onnx"
            self.quantize(alone, [other for other in self.layers if other != layer], False)
            session = self.session(alone)
            found = [session.run(None, feed) for feed in feeds]
            error = self.relative_error(expected, found)
            layers.append({"name": layer, "error": error, "secs": times.get(layer, 0.0)})
            say({"progress": 1})
        return {"layers": layers}

    def times(self, feed) -> dict[str, float]:
        """Seconds of each layer in float32."""
        options = self.options()
        # Layers keep their names at this level.
        options.graph_optimization_level = self.onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.enable_profiling = True
        options.profile_file_prefix = str(self.folder / "profile")
        session = self.onnxruntime.InferenceSession(str(self.float_model), options, providers=["CPUExecutionProvider"])
        for _ in range(TIMED_RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
        ending, times = "_kernel_time", {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(ending):
                name = event["name"].removesuffix(ending)
                times[name] = min(times.get(name, float("inf")), event["dur"] / 1e6)
        return times

    def relative_error(self, expected, found) -> float:
        """The largest relative error of an output, over all frames: frames without objects have small outputs and count little."""
        errors = [0.0]
        for arrays, others in zip(zip(*expected), zip(*found)):
            pairs = [(self.numpy.asarray(a, self.numpy.float64), b) for a, b in zip(arrays, others) if a.shape == b.shape]
            size = sum(float(self.numpy.square(a).sum()) for a, _ in pairs)
            error = sum(float(self.numpy.square(a - b).sum()) for a, b in pairs)
            errors.append((error / size) ** 0.5 if size else 0.0)
        return max(errors)

    def answer(self, command: dict) -> dict:
        match command.pop("do"):
            case "prepare":
                return self.prepare()
            case "equalize":
                return self.equalize()
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
