"""Trains a small 3D network on a folder of videos, one folder a class: plain PyTorch, from files to an accuracy.

    python train_clips.py VIDEOS [--epochs 5] [--device cuda] [--resume]

VIDEOS/cats/a.mp4, VIDEOS/dogs/b.mkv ... The index of the folder is written to VIDEOS/index.parquet and kept up to date. Every tenth video
is for validation. A run that was stopped goes on with its very next batch with --resume.
"""

import argparse
from pathlib import Path

import framerail as fr
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("videos", type=Path)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--size", type=int, default=112)
parser.add_argument("--every", type=int, default=10, help="validate on every so many videos")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--resume", action="store_true")
arguments = parser.parse_args()
checkpoint = arguments.videos / "checkpoint.pt"

# 1. Index the files.
index = arguments.videos / "index.parquet"
print(fr.index_videos(arguments.videos, index))
paths = sorted(fr.read_index(index)["path"])
held_out = set(paths[:: arguments.every])

# 2. Random clips for training; uniform clips with three crops for validation.
augment = fr.Augment(
    crop=fr.RandomResizedCrop(area=(0.5, 1.0)), size=(arguments.size, arguments.size), flip_horizontal=0.5, normalize=fr.IMAGENET
)
train = fr.torch.ClipDataset.from_index(
    index, labels="folder", where=lambda row: row["path"] not in held_out, frames_per_clip=16, stride=2, edge="wrap", layout="CTHW",
    short_side=arguments.size * 8 // 7, augment=augment, errors="skip",
)  # fmt: skip
validation = fr.torch.ClipDataset.from_index(
    index, labels="folder", where=lambda row: row["path"] in held_out, frames_per_clip=16, stride=2, edge="wrap", layout="CTHW",
    policy="regular", num_clips=4, short_side=arguments.size, crops=3, size=(arguments.size, arguments.size), dtype="float32",
    normalize=fr.IMAGENET, errors="skip",
)  # fmt: skip

# 3. A network.
network = torch.nn.Sequential(
    torch.nn.Conv3d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv3d(16, 32, 3, 2, 1), torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(32, len(train.classes)),
).to(arguments.device)  # fmt: skip
optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

# 4. Training. The state of the loader is a part of the checkpoint.
is_cuda = arguments.device != "cpu"
loader = fr.torch.ClipLoader(train, arguments.batch, shuffle=True, pin_memory=is_cuda, device=arguments.device, progress=True)
first = 0
if arguments.resume:
    state = torch.load(checkpoint)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    loader.load_state_dict(state["loader"])
    first = loader.epoch
for epoch in range(first, arguments.epochs):
    if epoch > first or not arguments.resume:
        loader.set_epoch(epoch)
    network.train()
    for step, batch in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(network(batch["frames"]), batch["label"].to(arguments.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
            torch.save(state, checkpoint)

    # 5. Validation: the mean of four clips with three crops each.
    network.eval()
    scores = fr.torch.VideoAverage()
    with torch.inference_mode(), fr.torch.ClipLoader(validation, arguments.batch, device=arguments.device) as clips:
        for batch in clips:
            # [B, 3, C, T, H, W] becomes [B * 3, C, T, H, W].
            scores.update(batch["source"], network(batch["frames"].flatten(0, 1)).softmax(-1))
    sources, mean = scores.result()
    labels = torch.tensor(validation.labels)[sources]
    print(f"epoch {epoch}: accuracy {float((mean.argmax(-1) == labels).double().mean()):.3f} of {len(sources)} videos")
stats = loader.stats
print(f"{stats['clips']} clips, {stats['wait_seconds']:.1f} s of {stats['running_seconds']:.1f} s waited for data")
loader.close()
