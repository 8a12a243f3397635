"""Training on clips of a folder, decoded by the workers of a cluster.

    python examples/ray/train.py videos/
"""

import sys

import framerail.ray as fr_ray
import torch

clips = fr_ray.read_clips(sys.argv[1], frames_per_clip=8, stride=2, size=(64, 64))
model = torch.nn.Sequential(torch.nn.Conv3d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
optimizer, steps = None, 0
# Text cannot become a tensor: choose the columns that are wanted.
for batch in clips.select_columns(["frames", "clip"]).iter_torch_batches(batch_size=2, drop_last=True):
    frames = batch["frames"].permute(0, 4, 1, 2, 3).float() / 255
    loss = torch.nn.functional.cross_entropy(model(frames), batch["clip"] % 2)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    steps += 1
print(f"{steps} steps, loss {loss.item():.2f}")
