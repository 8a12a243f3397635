"""Model families on a GPU beside their references: boxes from a folder that `make test-models` made.

    FRAMERAIL_MODELS_BUNDLE=bundle make test-models
    python3 bench/gpu_models.py bundle [--out RESULT.json]

Each model runs by its card on the GPU and on the CPU. The differences are those of boxes in pixels and of scores, from the reference and
between the two. NVIDIA_TF32_OVERRIDE=0 is set for a first pass; the second has TF32, framerail's default on GPUs, whose products have inputs of ten
mantissa bits, so that scores near the threshold may fall on its other side: `missing` and `more` count those.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run(image: Path, card: Path, device: str) -> tuple[list[tuple[float, ...]], list[float], list[int], dict[str, int]]:
    import framerail as fr

    found: list[Any] = []
    pipeline = fr.Pipeline(f"read '{image}' ! infer '{card}' ! null", device=device)
    pipeline.on("infer", lambda items: found.extend(items[0].detections))
    stats = pipeline.run(serve=False)
    counters = next(stage["counters"] for stage in stats["stages"] if stage["name"] == "infer")
    return [one.bbox_xyxy for one in found], [one.score for one in found], [one.label_id for one in found], counters


def compared(ours: Any, theirs: Any) -> dict[str, Any]:
    """Pairs of the same class, nearest first; a pair is at most 4 pixels and 0.05 in score apart."""
    import numpy as np

    (boxes, scores, labels), (wanted, wanted_scores, wanted_labels) = ours, theirs
    boxes, wanted = np.asarray(boxes, float).reshape(-1, 4), np.asarray(wanted, float).reshape(-1, 4)
    far = np.abs(boxes[:, None] - wanted[None]).max(-1)
    apart = np.abs(np.asarray(scores, float)[:, None] - np.asarray(wanted_scores, float)[None])
    cost = far + 10 * apart + 1e6 * (np.asarray(labels)[:, None] != np.asarray(wanted_labels)[None])
    pixels, score, pairs, used, other = 0.0, 0.0, 0, set(), set()
    for place in np.argsort(cost, axis=None):
        mine, its = divmod(int(place), len(wanted))
        if cost[mine, its] > 4.5:
            break
        if mine in used or its in other:
            continue
        used.add(mine)
        other.add(its)
        pairs, pixels, score = pairs + 1, max(pixels, far[mine, its]), max(score, apart[mine, its])
    return {"pairs": pairs, "missing": len(wanted) - pairs, "more": len(boxes) - pairs, "pixels": float(pixels), "score": float(score)}


def one_pass(folder: Path) -> list[dict[str, Any]]:
    results = []
    for place in sorted(folder.iterdir()):
        case = json.loads((place / "case.json").read_text(encoding="utf-8"))
        wanted = case["boxes"], case["scores"], case["labels"]
        result = {"family": case["family"], "reference": case["reference"], "boxes": len(case["boxes"])}
        start = time.perf_counter()
        try:
            *gpu, counters = run(place / "image.png", place / case["card"], "cuda")
            *host, _ = run(place / "image.png", place / case["card"], "cpu")
        except Exception as error:  # Each case is reported.
            results.append({**result, "error": str(error)})
            continue
        result.update(gpu=compared(gpu, wanted), cpu=compared(host, wanted), gpu_beside_cpu=compared(gpu, host), secs=round(time.perf_counter() - start, 2))
        result["on_gpu"] = {name: value for name, value in counters.items() if "cpu" in name or "host" in name}
        results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one-pass", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_pass:
        json.dump(one_pass(options.folder), sys.stdout)
        return
    passes = {"float32": {"NVIDIA_TF32_OVERRIDE": "0"}, "tf32": {}}
    results = {}
    for name, settings in passes.items():
        command = [sys.executable, __file__, str(options.folder), "--one-pass"]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        results[name] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-2000:]}
    text = json.dumps(results, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
