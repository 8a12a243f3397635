# %% [markdown]
# # Frames, clips and a pipeline
#
# Runs as a script, `python frames_and_clips.py in.mp4`, and cell by cell in editors that know `# %%`.

# %%
import sys
import tempfile
from pathlib import Path

import framerail as fr
import numpy as np

video = sys.argv[1] if len(sys.argv) > 1 else "in.mp4"

# %% [markdown]
# ## What is in the file

# %%
reader = fr.VideoReader(video, output="numpy")
metadata = reader.metadata
print(f"{metadata.codec}, {metadata.width}x{metadata.height}, {metadata.num_frames} frames, {metadata.average_fps:.2f} a second")
print(f"the index comes from: {metadata.index_source}")

# %% [markdown]
# ## Frames by number and by time

# %%
first, last = reader[0], reader[-1]
print("one frame:", first.shape, first.dtype)
some = reader.read([5, 1, 1])
print("frames", some.numbers.tolist(), "at", np.round(some.seconds, 3).tolist(), "seconds:", some.data.shape)
middle = reader.read(reader.numbers_at(reader.times.seconds.mean()))
print(f"in the middle: frame {middle.number} at {middle.seconds:.3f} s:", middle.data.shape)

# %% [markdown]
# ## Batches, converted on the way

# %%
brightness = []
for batch in reader.batches(16, every=2, size=(64, 64), fit="letterbox", dtype="float32", normalize=True):
    brightness += batch.data.mean(axis=(1, 2, 3)).tolist()
print(f"{len(brightness)} frames, mean brightness {np.mean(brightness):.3f}")

# %% [markdown]
# ## Into memory of one's own

# %%
out = np.empty((4, 3, metadata.height, metadata.width), np.uint8)
reader.read_frames(range(4), out=out)
print("frame 3 again:", bool((out[3] == reader[3]).all()))

# %% [markdown]
# ## Clips for training

# %%
clips = fr.sample_clips(reader, num_clips=4, frames_per_clip=8, stride=2, seed=0)
print("clips:", clips.data.shape, "starting at", clips.numbers[:, 0].tolist())
augment = fr.Augment(crop=fr.RandomResizedCrop(), size=(48, 48), flip_horizontal=0.5, normalize=fr.IMAGENET)
print("augmented:", augment(clips.data, seed=0).shape)

# %% [markdown]
# ## A pipeline with a look inside

# %%
with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "every_other.mp4"
    seen: list[int] = []
    pipeline = fr.Pipeline(f"read '{video}' ! sample every=2 ! write '{target}'")
    pipeline.on("sample", lambda items: seen.extend(item.index for item in items))
    stats = pipeline.run()
    print(f"wrote {len(seen)} frames in {stats['wall_secs']:.2f} s; the file has {len(fr.VideoReader(target))}")
