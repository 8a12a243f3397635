#!/usr/bin/env python3
"""Writes models/skin.onnx: where a picture has the colours of skin. Run by hand: scripts/skin_model.py [FILE.onnx]

It needs the package `onnx`. Nothing in it was learnt: the numbers below are all that it holds. It is an example of a model that
gives a mask, small enough to be kept beside its card, and no good segmentation: whatever has these colours counts as skin.

  ranges of Cb and Cr   Chai, Ngan: Face segmentation using skin-color map in videophone applications, IEEE Transactions on
                        Circuits and Systems for Video Technology 9(4), 1999: Cb from 77 to 127, Cr from 133 to 173
  Cb and Cr of RGB      Rec. ITU-R BT.601-7, 8 bits
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 96
# Width in pixels of the square over which the likelihood is averaged: it closes eyes and mouth, and drops specks.
SMOOTHING = 13
# Codes within which the likelihood goes from one half to nearly none at a bound.
SOFTNESS = 2.0
CB, CR = (77.0, 127.0), (133.0, 173.0)

# Of R, G and B from 0 to 255.
CB_OF_RGB = np.array([-37.797, -74.203, 112.0]) / 255.0
CR_OF_RGB = np.array([112.0, -93.786, -18.214]) / 255.0


def bounds():
    """Weights and biases of four values, each above 0 on the right side of one bound."""
    rows, biases = [], []
    for of_rgb, (low, high) in [(CB_OF_RGB, CB), (CR_OF_RGB, CR)]:
        for sign, bound in [(1.0, low), (-1.0, high)]:
            rows.append(sign * of_rgb / SOFTNESS)
            biases.append(sign * (128.0 - bound) / SOFTNESS)
    return np.array(rows, np.float32).reshape(4, 3, 1, 1), np.array(biases, np.float32)


def model():
    weight, bias = bounds()
    # From 0 to 1, steeper about one half, so that the mask's edge stays where half of the square is skin.
    sharpen, half = np.array(12.0, np.float32), np.array(0.5, np.float32)
    nodes = [
        helper.make_node("Conv", ["rgb", "weight", "bias"], ["margins"]),
        helper.make_node("Sigmoid", ["margins"], ["within"]),
        helper.make_node("ReduceMin", ["within"], ["skin"], axes=[1], keepdims=1),
        helper.make_node(
            "AveragePool", ["skin"], ["smooth"], kernel_shape=[SMOOTHING] * 2, pads=[SMOOTHING // 2] * 4, count_include_pad=0
        ),
        helper.make_node("Sub", ["smooth", "half"], ["above"]),
        helper.make_node("Mul", ["above", "sharpen"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["probability"]),
    ]
    tensors = {"weight": weight, "bias": bias, "sharpen": sharpen, "half": half}
    graph = helper.make_graph(
        nodes,
        "skin",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    made = helper.make_model(graph, producer_name="scripts/skin_model.py", opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(made)
    return made


def main():
    default = Path(__file__).resolve().parent.parent / "models" / "skin.onnx"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    path.write_bytes(model().SerializeToString(deterministic=True))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
