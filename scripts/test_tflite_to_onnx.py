"""Every model of scripts/requirements/tflite.tsv: its ONNX file answers as LiteRT's interpreter does.

Run by scripts/test.sh in the environment litert-venv, with FRAMERAIL_HOME set.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tflite
import tflite_to_onnx as converter
from ai_edge_litert.interpreter import Interpreter

LIST = Path(__file__).parent / "requirements" / "tflite.tsv"
MODELS = Path(os.environ["FRAMERAIL_HOME"]) / "models"
ROWS = [line.split("\t") for line in LIST.read_text("utf-8").splitlines() if line and line[0] != "#"]
TOLERANCE = 1e-4


CLIP = Path(os.environ["FRAMERAIL_HOME"]) / "clips/carphone_pristine.mp4"


def picture(shape, number):
    """A frame of a person in a car, 0 to 1."""
    chosen = f"select=eq(n\\,{number * 100}),scale={shape[2]}:{shape[1]}"
    command = ["ffmpeg", "-v", "error", "-i", CLIP, "-vf", chosen, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(pixels, np.uint8).reshape(shape).astype(np.float32) / 255


def channels_first(values):
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def litert(data, image):
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [channels_first(interpreter.get_tensor(found["index"])) for found in interpreter.get_output_details()]


def onnx_answers(model, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: channels_first(image)})


def difference(found, expected):
    """The largest difference, relative to the output's largest value: coordinates go up to some hundred pixels."""
    assert found.shape == expected.shape
    return float(np.max(np.abs(found - expected)) / max(1, np.max(np.abs(expected))))


@pytest.mark.parametrize(("source", "target", "names", "behind"), ROWS, ids=[row[1] for row in ROWS])
def test_outputs_are_those_of_litert(source, target, names, behind):
    data = (MODELS / source).read_bytes()
    shape = tflite.Model.GetRootAsModel(data, 0).Subgraphs(0).Tensors(0).ShapeAsNumpy().tolist()
    model = converter.Converter(data).convert(names.split(","))
    for number in range(2):
        image = picture(shape, number)
        expected = [values for name, values in zip(names.split(","), litert(data, image), strict=True) if name != "-"]
        for found, wanted in zip(onnx_answers(model, image), expected, strict=True):
            assert difference(found, wanted) < TOLERANCE
    # The file that set-up makes is the same, except for the appended nodes.
    installed = onnx.load(MODELS / target)
    whole = converter.Converter((MODELS / source).read_bytes()).convert(dict((row[1], row[2]) for row in ROWS)[target].split(","))
    converter.put_behind(whole, behind)
    assert installed.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


def test_batches_are_answered_one_by_one():
    model = onnx.load(MODELS / "face-mesh.onnx")
    images = [picture([1, 192, 192, 3], number) for number in range(2)]
    together = onnx_answers(model, np.concatenate(images))
    for place, image in enumerate(images):
        for found, expected in zip(together, onnx_answers(model, image), strict=True):
            assert difference(found[place : place + 1], expected) < TOLERANCE


def test_anchors_are_those_of_the_published_graphs():
    centers = converter.anchor_centers(192, [(8, 2), (16, 6)])
    assert len(centers) == 2016
    assert centers[0].tolist() == [4, 4] and centers[1].tolist() == [4, 4] and centers[2].tolist() == [12, 4]
    assert centers[-1].tolist() == [184, 184]


def test_sparse_weights_are_filled_in():
    class Level:
        def __init__(self, size=None, segments=(), indices=()):
            self.size, self.segments, self.indices = size, segments, indices

        def Format(self):
            return tflite.DimensionType.DENSE if self.size is not None else tflite.DimensionType.SPARSE_CSR

        def DenseSize(self):
            return self.size

        def ArraySegmentsType(self):
            return "segments"

        def ArrayIndicesType(self):
            return "indices"

        def ArraySegments(self):
            return self.segments

        def ArrayIndices(self):
            return self.indices

    class Sparsity:
        levels = [Level(size=2), Level(segments=[0, 1, 3], indices=[2, 0, 1])]

        def TraversalOrderAsNumpy(self):
            return np.array([0, 1])

        def BlockMapAsNumpy(self):
            return 0

        def DimMetadataLength(self):
            return 2

        def DimMetadata(self, place):
            return self.levels[place]

    known = converter.sparse_vector
    converter.sparse_vector = lambda _, values: list(values)
    try:
        found = converter.dense(np.array([5.0, 6.0, 7.0], np.float32), [2, 3], Sparsity())
    finally:
        converter.sparse_vector = known
    assert found.tolist() == [[0, 0, 5], [6, 7, 0]]


def test_an_unknown_operator_is_refused(tmp_path, capsys):
    source = MODELS / "tflite/selfie_segmentation.tflite"
    data = source.read_bytes().replace(b"Convolution2DTransposeBias", b"Convolution2DTransposeBiaX")
    (tmp_path / "other.tflite").write_bytes(data)
    converter.sys.argv = ["tflite_to_onnx.py", str(tmp_path / "other.tflite"), str(tmp_path / "other.onnx")]
    assert converter.main() == 1
    assert "operator Convolution2DTransposeBiaX" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx*"))
