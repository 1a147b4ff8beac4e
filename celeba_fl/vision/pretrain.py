"""A backbone without a download: trained from scratch on the drawn faces' `pretrain` split.

It has seen drawings of the same attributes that the drawn data set asks for, so what it scores
there says nothing about photographs. Most epochs are on smaller images, which gives more steps in
the same time (progressive resizing: Howard et al., fast.ai's DAWNBench entry of 2018).
"""

import numpy as np
import torch
from torch import nn

from celeba_fl.common.log import LOG, Progress
from celeba_fl.data.drawn_labels import SAMPLED
from celeba_fl.data.images import decode
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.table import Table
from celeba_fl.vision.backbones import Backbone

IMAGE_SIZES = (64,) * 8 + (96,) * 2  # of each epoch
BATCH_SIZE = 32
SEED = 42
# What is not drawn is noise to a backbone.
DRAWN = [i for i, name in enumerate(ATTRIBUTES) if name not in SAMPLED]


def pretrain(backbone: Backbone, table: Table) -> nn.Module:
    """Train `backbone`, from random weights, on the `pretrain` images of the drawn faces.

    AdamW under the one-cycle schedule (Smith and Topin 2018), images mirrored at random.
    """
    rows = table.rows("pretrain")
    images = {
        size: torch.from_numpy(np.stack([decode(table.read(row), size) for row in rows]))
        for size in sorted(set(IMAGE_SIZES))
    }
    labels = torch.from_numpy(np.asarray(table.labels[rows])[:, DRAWN]).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    steps = len(rows) // BATCH_SIZE  # an epoch
    total, rate = len(IMAGE_SIZES) * steps, backbone.learning_rate
    LOG.info("Training the drawn weights on %d faces, once", len(rows))
    progress = Progress("Training the drawn weights", total * BATCH_SIZE, every=10)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = backbone.build()
        network = nn.Sequential(module, nn.Linear(backbone.dim, len(DRAWN))).train()
        network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total)
        for size in IMAGE_SIZES:
            for batch in torch.randperm(len(rows)).split(BATCH_SIZE)[:steps]:
                mirrored = torch.rand(len(batch)) < 0.5
                pixels = images[size][batch].float().div_(255).sub_(mean).div_(std)
                pixels[mirrored] = pixels[mirrored].flip(-1)
                scores = network(pixels.contiguous(memory_format=torch.channels_last))
                loss = nn.functional.binary_cross_entropy_with_logits(scores, labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance(len(batch))
    return module.eval().to(memory_format=torch.contiguous_format)
