"""The same as train_clips.py with Lightning: `ClipLoader` takes the place of `DataLoader`.

    pip install lightning
    python train_lightning.py VIDEOS

Lightning calls ``set_epoch`` of samplers, not of loaders: `on_train_epoch_start` does. What Lightning saves of a loop that was stopped holds
``state_dict()`` of the loader, so a run that is resumed goes on with its very next batch.
"""

import sys
from typing import Dict, Optional

import framerail as fr
import lightning
import torch


class Clips(lightning.LightningDataModule):
    def __init__(self, videos: str, batch: int = 8):
        super().__init__()
        self.videos, self.batch = videos, batch

    def prepare_data(self) -> None:
        fr.index_videos(self.videos, f"{self.videos}/index.parquet")

    def train_dataloader(self) -> fr.torch.ClipLoader:
        augment = fr.Augment(crop=fr.RandomResizedCrop(), size=(112, 112), flip_horizontal=0.5, normalize=fr.IMAGENET)
        data = fr.torch.ClipDataset.from_index(
            f"{self.videos}/index.parquet", labels="folder", frames_per_clip=16, stride=2, edge="wrap", layout="CTHW", short_side=128,
            augment=augment, errors="replace",
        )  # fmt: skip
        # Lightning adds a DistributedSampler to loaders that it knows. Here the ranks are set explicitly.
        sampler: Optional[torch.utils.data.DistributedSampler[fr.torch.ClipItem]] = None
        if self.trainer.world_size > 1:
            sampler = torch.utils.data.DistributedSampler(data, self.trainer.world_size, self.trainer.global_rank)
        return fr.torch.ClipLoader(data, self.batch, shuffle=sampler is None, sampler=sampler, pin_memory=True)


class Network(lightning.LightningModule):
    def __init__(self, classes: int = 2):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(16, classes)
        )

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch: Dict[str, torch.Tensor], _: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.layers(batch["frames"]), batch["label"])
        self.log("waiting_seconds", self.trainer.train_dataloader.step["wait_seconds"])
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


if __name__ == "__main__":
    lightning.Trainer(max_epochs=5).fit(Network(), Clips(sys.argv[1]))
