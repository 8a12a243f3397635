"""Clips for JAX, and as a tf.data set, by DLPack: memory of a batch is handed over, not copied.

    pip install jax                  # or tensorflow
    python train_jax.py VIDEO...     # prints shapes and means of the first batches; --tf for tf.data

PyTorch makes the batches; its CPU build is enough. With device="cuda" they lie on the card, and JAX takes them there.
"""

import sys
from collections.abc import Iterator
from typing import Dict, List

import framerail as fr
import torch


def batches(paths: List[str], device: str = "cpu") -> Iterator[Dict[str, torch.Tensor]]:
    # XLA knows uint8; channels last are what most of JAX's and TensorFlow's layers take.
    data = fr.torch.ClipDataset(paths, frames_per_clip=16, stride=2, size=(112, 112), layout="THWC", edge="wrap", device=device)
    with fr.torch.ClipLoader(data, batch_size=4, shuffle=True) as loader:
        yield from loader


def for_jax(paths: List[str]) -> None:
    import jax
    import jax.numpy as jnp

    mean = jax.jit(lambda frames: jnp.mean(frames.astype(jnp.float32) / 255.0, axis=(1, 2, 3, 4)))
    for batch in batches(paths):
        frames = jax.dlpack.from_dlpack(batch["frames"])
        print(frames.shape, frames.dtype, mean(frames))


def for_tensorflow(paths: List[str]) -> None:
    import tensorflow as tf

    def taken() -> Iterator[tf.Tensor]:
        for batch in batches(paths):
            yield tf.experimental.dlpack.from_dlpack(batch["frames"].__dlpack__())

    signature = tf.TensorSpec((None, 16, 112, 112, 3), tf.uint8)
    for frames in tf.data.Dataset.from_generator(taken, output_signature=signature).prefetch(1).as_numpy_iterator():
        print(frames.shape, float(frames.mean()))


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv[1:] if argument != "--tf"]
    (for_tensorflow if "--tf" in sys.argv else for_jax)(chosen)
