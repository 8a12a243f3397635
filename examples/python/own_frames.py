"""Frames of the program as the source of a pipeline: taken from a generator, pushed, and read live. Needs NumPy alone.

    python own_frames.py OUT.mp4

A ball that bounces stands for a camera's SDK, a simulator or a decoder.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import framerail as fr
import numpy as np

WIDTH, HEIGHT = 320, 180


def ball(count: int) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] in RGB. The same array is reused: frames are copied when they are handed in."""
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(count):
        x, y = 20 + 4 * number % (WIDTH - 40), HEIGHT // 2 + 60 * np.sin(number / 8)
        frame[:] = (30, 40, 60)
        frame[(rows - y) ** 2 + (columns - x) ** 2 < 20**2] = (240, 160, 40)
        yield frame


def main(out: object) -> None:
    # A generator: the pipeline takes frames as fast as it works, and times them by the rate.
    source = fr.FrameInput(ball(60), fps=30)
    fr.Pipeline(f"read given:ball ! text '{{time}}' ! write '{out}' overwrite=yes", sources={"given:ball": source}).run()
    print(f"written: {source.pushed} frames")

    # A program that pushes, with its own times. `push` waits while the pipeline is behind.
    camera = fr.FrameInput()
    pipeline = fr.Pipeline("read given:camera ! null", sources={"given:camera": camera})
    run = threading.Thread(target=pipeline.run)
    run.start()
    with camera:
        for number, frame in enumerate(ball(10)):
            camera.push(frame, seconds=number * 0.1)
    run.join()
    print(f"pushed: {camera.pushed} frames, {camera.dropped} dropped")

    # Tensors for a model, in batches.
    with fr.live(ball(8), fr.Preprocess(size=(90, 160)), batch=4, drop="none", output="numpy") as batches:
        print("live:", sum(len(batch) for batch in batches), "frames of 90x160")


if __name__ == "__main__":
    main(sys.argv[1])
