"""Changes the colours of every frame in HSV and writes the video again. Needs NumPy alone.

    python hsv_edit.py IN.mp4 OUT.mp4
"""

from __future__ import annotations

import sys

import framerail as fr
import numpy as np

#: Saturation after the change: a third more.
SATURATION = np.clip(np.arange(256) * 4 // 3, 0, 255).astype(np.uint8)


@fr.stage(on="cpu")
def more_colour(batch: fr.ItemBatch) -> None:
    """What is written to the array becomes the frame, converted back once."""
    for frame in batch:
        hsv = np.asarray(frame.hsv())
        hsv[:, :, 1] = SATURATION[hsv[:, :, 1]]


def main(source: str, target: str) -> None:
    pipeline = fr.Pipeline(f"read '{source}' ! write '{target}' preset=veryfast overwrite=true")
    pipeline.insert_after("read", more_colour)
    stats = pipeline.run()
    print(f"{stats['stages'][-1]['frames_in']} frames")


if __name__ == "__main__":
    main(*sys.argv[1:])
