#!/usr/bin/env python3
"""Converts a TensorFlow Lite model to ONNX, operator by operator.

usage: tflite_to_onnx.py MODEL.tflite MODEL.onnx [OUTPUT_NAMES [BEHIND]]
       tflite_to_onnx.py --list LIST FOLDER

OUTPUT_NAMES are separated by commas; an output named `-` is left out. BEHIND names what is put behind the model: `-` is nothing; `first=N` keeps the first N values of
the first output; `anchors=SIDE:STRIDExCOUNT,...` turns the first two outputs of an SSD with anchors of fixed size, boxes and scores,
into one, `detections`: [batch, boxes, centre, size, score, points], in pixels of the input of this side.
With --list, LIST has these as columns, separated by tabs, and the files are in FOLDER.

Tensors of four axes become channels-first, so the image input is [batch, channels, rows, columns]. Weights in float16, and
sparse ones, become float32. Operators outside the table below are an error: nothing is approximated.
Source of the format: tensorflow/lite/schema/schema.fbs.
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)
TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
}
OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
ACTIVATIONS = {tflite.ActivationFunctionType.RELU: "Relu", tflite.ActivationFunctionType.RELU6: "Clip"}


class Unsupported(ValueError):
    """The model has something that the table of operators lacks."""


def vector(of, name):
    """A flatbuffer vector as a list of ints, whether or not it is there."""
    found = getattr(of, f"{name}AsNumpy")()
    return [] if isinstance(found, int) else [int(value) for value in found]


def options(op, kind):
    """The operator's table of options."""
    table, found = op.BuiltinOptions(), kind()
    found.Init(table.Bytes, table.Pos)
    return found


def sparse_vector(kind, table):
    """The segments or indices of a sparse dimension."""
    if kind == tflite.SparseIndexVector.NONE:
        return []
    classes = {
        tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
        tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
        tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
    }
    found = classes[kind]()
    found.Init(table.Bytes, table.Pos)
    return vector(found, "Values")


def dense(values, shape, sparsity):
    """The full array of a sparse tensor.

    Dimensions are stored in traversal order; those behind the shape's are blocks of the ones that the block map names.
    """
    order, blocks = vector(sparsity, "TraversalOrder"), vector(sparsity, "BlockMap")
    levels = []
    for place in range(sparsity.DimMetadataLength()):
        level = sparsity.DimMetadata(place)
        if level.Format() == tflite.DimensionType.DENSE:
            levels.append((level.DenseSize(), None, None))
        else:
            segments = sparse_vector(level.ArraySegmentsType(), level.ArraySegments())
            levels.append((0, segments, sparse_vector(level.ArrayIndicesType(), level.ArrayIndices())))
    full, at = np.zeros(shape, values.dtype), [0] * len(levels)
    sizes = [levels[order.index(len(shape) + block)][0] for block in range(len(blocks))]

    def fill(level, position):
        if level == len(levels):
            place = at[: len(shape)]
            for block, axis in enumerate(blocks):
                place[axis] = place[axis] * sizes[block] + at[len(shape) + block]
            full[tuple(place)] = values[position]
            return
        size, segments, indices = levels[level]
        if segments is None:
            for index in range(size):
                at[order[level]] = index
                fill(level + 1, position * size + index)
        else:
            for entry in range(segments[position], segments[position + 1]):
                at[order[level]] = indices[entry]
                fill(level + 1, entry)

    fill(0, 0)
    return full


def same_pads(sizes, strides, kernel, dilations, padding):
    """Pads of the two axes of an image, begins before ends, as TFLite's SAME and VALID mean them."""
    begins, ends = [], []
    for size, stride, taps, dilation in zip(sizes, strides, kernel, dilations, strict=True):
        wanted = ((size + stride - 1) // stride - 1) * stride + (taps - 1) * dilation + 1 - size
        total = max(wanted, 0) if padding == tflite.Padding.SAME else 0
        begins.append(total // 2)
        ends.append(total - total // 2)
    return begins + ends


class Converter:
    """One model on its way to ONNX."""

    def __init__(self, data):
        self.model = tflite.Model.GetRootAsModel(data, 0)
        if self.model.SubgraphsLength() != 1:
            raise Unsupported(f"{self.model.SubgraphsLength()} subgraphs; only one is supported")
        self.graph = self.model.Subgraphs(0)
        self.nodes, self.initializers, self.constants = [], {}, {}

    def shape(self, index):
        return vector(self.graph.Tensors(index), "Shape")

    def name(self, index):
        return self.renamed.get(index, f"t{index}")

    def constant(self, index):
        """The values of a constant tensor, in TFLite's layout; None for one that is computed."""
        if index in self.constants:
            return self.constants[index]
        tensor = self.graph.Tensors(index)
        raw = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(raw, int) or len(raw) == 0:
            return None
        if tensor.Type() not in TYPES:
            raise Unsupported(f"constant {tensor.Name().decode()} of type {tensor.Type()}")
        values = np.frombuffer(raw.tobytes(), TYPES[tensor.Type()])
        sparsity = tensor.Sparsity()
        values = values.reshape(self.shape(index)) if sparsity is None else dense(values, self.shape(index), sparsity)
        self.constants[index] = values
        return values

    def stored(self, name, values):
        """An initializer by this name."""
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def value(self, index):
        """Name of an operand; a constant of four axes becomes channels-first like the rest."""
        values = self.constant(index)
        if values is None:
            return self.name(index)
        if values.dtype == np.float16:
            values = values.astype(np.float32)
        return self.stored(f"c{index}", values.transpose(CHANNELS_FIRST) if values.ndim == 4 else values)

    def emit(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def activated(self, kind, inputs, output, activation, **attributes):
        """An operator with TFLite's fused activation behind it."""
        if activation == tflite.ActivationFunctionType.NONE:
            return self.emit(kind, inputs, output, **attributes)
        if activation not in ACTIVATIONS:
            raise Unsupported(f"fused activation {activation}")
        between = self.emit(kind, inputs, f"{output}_linear", **attributes)
        is_limited = activation == tflite.ActivationFunctionType.RELU6
        behind = [self.stored("zero", np.float32(0)), self.stored("six", np.float32(6))] if is_limited else []
        return self.emit(ACTIVATIONS[activation], [between, *behind], output)

    def convert(self, output_names):
        """The ONNX model."""
        inputs, outputs = vector(self.graph, "Inputs"), vector(self.graph, "Outputs")
        if output_names and len(output_names) != len(outputs):
            raise Unsupported(f"{len(output_names)} output names for {len(outputs)} outputs")
        self.renamed = {index: "image" if len(inputs) == 1 else f"input_{place}" for place, index in enumerate(inputs)}
        self.renamed |= dict(zip(outputs, output_names or [f"output_{place}" for place in range(len(outputs))], strict=True))
        for place in range(self.graph.OperatorsLength()):
            op = self.graph.Operators(place)
            code = self.model.OperatorCodes(op.OpcodeIndex())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            name = code.CustomCode().decode() if builtin == tflite.BuiltinOperator.CUSTOM else OPERATORS[builtin]
            rule = getattr(self, f"op_{name}", None)
            if rule is None:
                raise Unsupported(f"operator {name}")
            rule(op, vector(op, "Inputs"), vector(op, "Outputs")[0])
        graph = helper.make_graph(
            self.needed(),
            "tflite",
            [self.info(index) for index in inputs],
            [self.info(index) for index in outputs if self.name(index) != "-"],
            [values for name, values in self.initializers.items() if any(name in node.input for node in self.needed())],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="framerail tflite_to_onnx")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model

    def needed(self):
        """The nodes that outputs with a name depend on."""
        wanted, kept = {self.name(index) for index in vector(self.graph, "Outputs")} - {"-"}, []
        for node in reversed(self.nodes):
            if node.output[0] in wanted:
                wanted.update(node.input)
                kept.insert(0, node)
        return kept

    def info(self, index):
        shape = self.shape(index)
        shape = [shape[axis] for axis in CHANNELS_FIRST] if len(shape) == 4 else shape
        return helper.make_tensor_value_info(self.name(index), TensorProto.FLOAT, ["batch", *shape[1:]])

    # Constants.

    def op_DEQUANTIZE(self, _, inputs, output):
        values = self.constant(inputs[0])
        if values is None or values.dtype != np.float16:
            raise Unsupported("DEQUANTIZE of anything but float16 constants")
        self.constants[output] = values.astype(np.float32)

    def op_DENSIFY(self, _, inputs, output):
        self.constants[output] = self.constant(inputs[0])

    # Convolutions and pooling.

    def weights(self, index, axes):
        return self.stored(f"w{index}", self.constant(index).astype(np.float32).transpose(axes))

    def bias(self, inputs):
        has_bias = len(inputs) > 2 and inputs[2] >= 0
        return [self.stored(f"b{inputs[2]}", self.constant(inputs[2]).astype(np.float32))] if has_bias else []

    def window(self, found, source, kernel, dilations):
        strides = [found.StrideH(), found.StrideW()]
        pads = same_pads(self.shape(source)[1:3], strides, kernel, dilations, found.Padding())
        return {"strides": strides, "pads": pads, "kernel_shape": kernel}

    def op_CONV_2D(self, op, inputs, output):
        found = options(op, tflite.Conv2DOptions)
        kernel, dilations = self.shape(inputs[1])[1:3], [found.DilationHFactor(), found.DilationWFactor()]
        operands = [self.value(inputs[0]), self.weights(inputs[1], CHANNELS_FIRST), *self.bias(inputs)]
        window = self.window(found, inputs[0], kernel, dilations)
        groups = self.shape(inputs[0])[3] // self.shape(inputs[1])[3]
        activation = found.FusedActivationFunction()
        self.activated("Conv", operands, self.name(output), activation, dilations=dilations, group=groups, **window)

    def op_DEPTHWISE_CONV_2D(self, op, inputs, output):
        found = options(op, tflite.DepthwiseConv2DOptions)
        kernel, dilations = self.shape(inputs[1])[1:3], [found.DilationHFactor(), found.DilationWFactor()]
        operands = [self.value(inputs[0]), self.weights(inputs[1], (3, 0, 1, 2)), *self.bias(inputs)]
        window = self.window(found, inputs[0], kernel, dilations)
        groups, activation = self.shape(inputs[0])[3], found.FusedActivationFunction()
        self.activated("Conv", operands, self.name(output), activation, dilations=dilations, group=groups, **window)

    def op_Convolution2DTransposeBias(self, op, inputs, output):
        """MediaPipe's own: a transposed convolution with a bias. Its options are a C structure: padding, stride across, stride down."""
        padding, across, down = struct.unpack_from("<iii", bytes(op.CustomOptionsAsNumpy()))
        kernel, strides = self.shape(inputs[1])[1:3], [down, across]
        sizes = zip(self.shape(inputs[0])[1:3], self.shape(output)[1:3], strides, kernel, strict=True)
        same = 1
        totals = [max((size - 1) * stride + taps - wanted, 0) if padding == same else 0 for size, wanted, stride, taps in sizes]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
        operands = [self.value(inputs[0]), self.weights(inputs[1], (3, 0, 1, 2)), *self.bias(inputs)]
        self.emit("ConvTranspose", operands, self.name(output), strides=strides, pads=pads, kernel_shape=kernel)

    def pool(self, kind, op, inputs, output, **attributes):
        found = options(op, tflite.Pool2DOptions)
        window = self.window(found, inputs[0], [found.FilterHeight(), found.FilterWidth()], [1, 1])
        self.activated(kind, [self.value(inputs[0])], self.name(output), found.FusedActivationFunction(), **window, **attributes)

    def op_MAX_POOL_2D(self, op, inputs, output):
        self.pool("MaxPool", op, inputs, output)

    def op_AVERAGE_POOL_2D(self, op, inputs, output):
        self.pool("AveragePool", op, inputs, output, count_include_pad=0)

    # Element by element.

    def op_PRELU(self, _, inputs, output):
        slope = self.constant(inputs[1]).astype(np.float32)
        slope = slope.reshape((1,) * (3 - slope.ndim) + slope.shape).transpose(2, 0, 1)
        self.emit("PRelu", [self.value(inputs[0]), self.stored(f"w{inputs[1]}", slope)], self.name(output))

    def op_RELU(self, _, inputs, output):
        self.emit("Relu", [self.value(inputs[0])], self.name(output))

    def op_HARD_SWISH(self, _, inputs, output):
        self.emit("HardSwish", [self.value(inputs[0])], self.name(output))

    def op_LOGISTIC(self, _, inputs, output):
        self.emit("Sigmoid", [self.value(inputs[0])], self.name(output))

    def op_ADD(self, op, inputs, output):
        self.elementwise("Add", options(op, tflite.AddOptions), inputs, output)

    def op_MUL(self, op, inputs, output):
        self.elementwise("Mul", options(op, tflite.MulOptions), inputs, output)

    def elementwise(self, kind, found, inputs, output):
        if any(len(self.shape(index)) not in (0, len(self.shape(output))) for index in inputs):
            raise Unsupported(f"{kind} of tensors with different numbers of axes")
        self.activated(kind, [self.value(index) for index in inputs], self.name(output), found.FusedActivationFunction())

    # Shapes.

    def axis(self, axis, tensor):
        """An axis of TFLite's layout in that of the ONNX tensor."""
        axes = len(self.shape(tensor))
        axis %= axes
        return CHANNELS_FIRST.index(axis) if axes == 4 else axis

    def op_PAD(self, _, inputs, output):
        pairs = self.constant(inputs[1])
        pairs = pairs[list(CHANNELS_FIRST)] if len(pairs) == 4 else pairs
        pads = self.stored(f"p{inputs[1]}", pairs.T.astype(np.int64).reshape(-1))
        self.emit("Pad", [self.value(inputs[0]), pads], self.name(output), mode="constant")

    def op_RESHAPE(self, _, inputs, output):
        source, shape = self.value(inputs[0]), self.shape(output)
        if self.shape(inputs[0])[0] != 1 or shape[0] != 1:
            raise Unsupported("RESHAPE of the batch axis")
        if len(self.shape(inputs[0])) == 4:
            source = self.emit("Transpose", [source], f"{self.name(output)}_last", perm=CHANNELS_LAST)
        target = self.stored(f"s{output}", np.array([-1, *shape[1:]], np.int64))
        if len(shape) == 4:
            reshaped = self.emit("Reshape", [source, target], f"{self.name(output)}_reshaped")
            self.emit("Transpose", [reshaped], self.name(output), perm=CHANNELS_FIRST)
        else:
            self.emit("Reshape", [source, target], self.name(output))

    def op_CONCATENATION(self, op, inputs, output):
        found = options(op, tflite.ConcatenationOptions)
        operands = [self.value(index) for index in inputs]
        axis, activation = self.axis(found.Axis(), output), found.FusedActivationFunction()
        self.activated("Concat", operands, self.name(output), activation, axis=axis)

    def op_DEPTH_TO_SPACE(self, op, inputs, output):
        block = options(op, tflite.DepthToSpaceOptions).BlockSize()
        self.emit("DepthToSpace", [self.value(inputs[0])], self.name(output), blocksize=block, mode="DCR")

    def op_RESIZE_BILINEAR(self, op, inputs, output):
        found = options(op, tflite.ResizeBilinearOptions)
        sizes, wanted = self.shape(inputs[0])[1:3], self.shape(output)[1:3]
        scales = self.stored(f"s{output}", np.array([1, 1, wanted[0] / sizes[0], wanted[1] / sizes[1]], np.float32))
        places = "align_corners" if found.AlignCorners() else "half_pixel" if found.HalfPixelCenters() else "asymmetric"
        attributes = {"mode": "linear", "coordinate_transformation_mode": places}
        self.emit("Resize", [self.value(inputs[0]), "", scales], self.name(output), **attributes)

    def op_MEAN(self, op, inputs, output):
        axes = sorted(self.axis(int(axis), inputs[0]) for axis in self.constant(inputs[1]).reshape(-1))
        keeps = options(op, tflite.ReducerOptions).KeepDims()
        if not keeps and len(self.shape(inputs[0])) == 4 and axes != [2, 3]:
            raise Unsupported("MEAN that drops other axes than rows and columns")
        self.emit("ReduceMean", [self.value(inputs[0])], self.name(output), axes=axes, keepdims=int(keeps))

    def op_FULLY_CONNECTED(self, op, inputs, output):
        found = options(op, tflite.FullyConnectedOptions)
        source, weights = self.value(inputs[0]), self.constant(inputs[1])
        if len(self.shape(output)) != 2:
            raise Unsupported("FULLY_CONNECTED that keeps more than two axes")
        if len(self.shape(inputs[0])) == 4:
            source = self.emit("Transpose", [source], f"{self.name(output)}_last", perm=CHANNELS_LAST)
        rows = self.stored(f"s{output}", np.array([-1, weights.shape[1]], np.int64))
        source = self.emit("Reshape", [source, rows], f"{self.name(output)}_rows")
        operands = [source, self.stored(f"w{inputs[1]}", weights.astype(np.float32)), *self.bias(inputs)]
        self.activated("Gemm", operands, self.name(output), found.FusedActivationFunction(), transB=1)


def anchor_centers(side, levels):
    """Centres of anchors in pixels: cells row by row, with so many anchors in each, level by level."""
    centers = []
    for stride, count in levels:
        places = (np.arange(-(-side // stride), dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(places, places, indexing="ij")
        centers.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, axis=0))
    return np.concatenate(centers)


def put_behind(model, behind):
    """Adds the nodes that `behind` names; see the head of this file."""
    kind, _, value = behind.partition("=")
    graph = model.graph
    if kind == "first":
        points = graph.output[0]
        for node in graph.node:
            node.output[:] = ["all_points" if name == points.name else name for name in node.output]
        limits = [numpy_helper.from_array(np.array([at], np.int64), name) for name, at in [("from", 0), ("to", int(value)), ("axis", 1)]]
        graph.initializer.extend(limits)
        graph.node.append(helper.make_node("Slice", ["all_points", "from", "to", "axis"], [points.name]))
        points.CopyFrom(helper.make_tensor_value_info(points.name, TensorProto.FLOAT, ["batch", int(value)]))
    elif kind == "anchors":
        side, levels = value.split(":")
        centers = anchor_centers(int(side), [map(int, level.split("x")) for level in levels.split(",")])
        boxes, scores = graph.output[0], graph.output[1]
        _, anchors, values = (axis.dim_value for axis in boxes.type.tensor_type.shape.dim)
        if len(centers) != anchors:
            raise Unsupported(f"{behind} makes {len(centers)} anchors, the model has {anchors}")
        # Every pair of values is a place beside the anchor, but for the second, the size.
        places = np.tile(centers, values // 2)
        places[:, 2:4] = 0
        graph.initializer.append(numpy_helper.from_array(places[None].astype(np.float32), "anchors"))
        splits = [numpy_helper.from_array(np.array([4, values - 4], np.int64), "parts")]
        graph.initializer.extend(splits)
        graph.node.append(helper.make_node("Add", [boxes.name, "anchors"], ["placed"]))
        graph.node.append(helper.make_node("Split", ["placed", "parts"], ["corners", "marks"], axis=2))
        graph.node.append(helper.make_node("Concat", ["corners", scores.name, "marks"], ["detections"], axis=2))
        detections = helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", anchors, values + 1])
        del graph.output[:]
        graph.output.append(detections)
    elif behind != "-":
        raise Unsupported(f"'{behind}' is not something to put behind a model; use first=N, anchors=SIDE:STRIDExCOUNT,... or -")
    onnx.checker.check_model(model, full_check=True)


def convert(source: Path, target: Path, output_names: list[str], behind: str = "-") -> None:
    model = Converter(source.read_bytes()).convert(output_names)
    put_behind(model, behind)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    os.replace(partial, target)


def main() -> int:
    arguments = sys.argv[1:]
    if len(arguments) == 3 and arguments[0] == "--list":
        folder = Path(arguments[2])
        lines = [line.split("\t") for line in Path(arguments[1]).read_text("utf-8").splitlines() if line and line[0] != "#"]
        jobs = [(folder / source, folder / target, names.split(","), behind) for source, target, names, behind in lines]
    elif 2 <= len(arguments) <= 4 and not arguments[0].startswith("-"):
        names = arguments[2].split(",") if len(arguments) > 2 else []
        jobs = [(Path(arguments[0]), Path(arguments[1]), names, *arguments[3:])]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for source, *rest in jobs:
        try:
            convert(source, *rest)
        except (Unsupported, OSError, struct.error) as error:
            print(f"tflite_to_onnx: {source}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
