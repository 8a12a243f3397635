"""Writes SSD300-VGG16 as ONNX, with random weights from a fixed seed, for the card models/ssd300.toml.

    python3 export_ssd300.py models/ssd300.onnx

Input `images`: f32 (batch, 3, 300, 300), the batch symbolic. Outputs `bbox_regression` (batch, 8732, 4) and
`cls_logits` (batch, 8732, 91). The file is checked: its outputs must equal PyTorch's where ONNX Runtime is installed.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch
from ssd300 import SIZE, BackboneAndHead, detector

OUTPUTS = ["bbox_regression", "cls_logits"]


def export(target: Path) -> torch.nn.Module:
    network = BackboneAndHead(detector()).eval()
    example = torch.zeros(2, 3, SIZE, SIZE)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(partial),
            input_names=["images"],
            output_names=OUTPUTS,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
            opset_version=18,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    partial.replace(target)
    return network


def differences(network: torch.nn.Module, target: Path) -> dict[str, float] | None:
    """The greatest difference of each output for a batch of 3, or None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 50
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    found = session.run(OUTPUTS, {"images": images.numpy()})
    with torch.no_grad():
        expected = network(images)
    return {
        name: float((torch.from_numpy(a) - b).abs().max() / b.abs().max())
        for name, a, b in zip(OUTPUTS, found, expected, strict=True)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    network = export(arguments.target)
    print(f"{arguments.target}: {arguments.target.stat().st_size / 1e6:.0f} MB")
    apart = differences(network, arguments.target)
    if apart is None:
        print("not compared with PyTorch: the Python package onnxruntime is not installed")
        return 0
    print("relative differences from PyTorch:", ", ".join(f"{name} {value:.1e}" for name, value in apart.items()))
    if max(apart.values()) > 1e-3:
        print("export_ssd300: the exported model answers otherwise than PyTorch's", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
