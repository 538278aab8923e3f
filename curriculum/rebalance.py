"""The second stage of decoupled training: changes a trained classifier's last layer.

Source: Kang et al. 2020, arXiv:1910.09217.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from curriculum.augment import augment_batch
from curriculum.epoch import plan_epoch
from curriculum.loader import EpochLoader, ImageTable
from curriculum.rebalancers.base import FeatureSet, Rebalancer
from curriculum.schedules.base import CurriculumSchedule, Progress
from curriculum.train_spec import TrainSpec
from generators.classifiers import to_inputs
from generators.registry import build


def rebalance(network: nn.Module, table: ImageTable, spec: TrainSpec) -> nn.Module:
    """The network with another last layer, as `spec.rebalancer` says; on `spec.device`.

    The images are those of the last epoch's pool, which is the prior that the network was trained
    under at the end.

    Raises:
        ConfigError: the network's last layer is not one that the rebalancer can change.
    """
    rebalancer: Rebalancer = build("rebalancer", spec.rebalancer, "rebalancer")
    return rebalancer.apply(network, _features(network, table, spec, rebalancer.num_passes))


def _features(network: Any, table: ImageTable, spec: TrainSpec, num_passes: int) -> FeatureSet:
    schedule: CurriculumSchedule = build("schedule", spec.schedule, "schedule")
    progress = Progress(epoch=spec.epochs - 1, num_epochs=spec.epochs)
    mixture = schedule.mixture(progress, {})
    plan = plan_epoch(table.rows, mixture, spec, build("sampling", spec.sampling), progress)
    loader = EpochLoader(table, spec.batch_size, num_workers=0, drop_last=False)
    draws = torch.Generator().manual_seed(spec.seed)
    device = torch.device(spec.device)
    embeddings = [torch.empty(0, network.num_features)]
    labels = [torch.empty(0, dtype=torch.long)]
    network.to(device).eval()
    with torch.inference_mode():
        for images, own, _ in loader.batches(np.tile(plan.pool, num_passes)):
            changed = augment_batch(images.to(device).float() / 255, spec.augment, draws)
            inputs = to_inputs(changed, spec.normalization, spec.image_size)
            seen = network.forward_head(network.forward_features(inputs), pre_logits=True)
            embeddings.append(seen.float().cpu())
            labels.append(own)
    return FeatureSet(  # made outside: tensors of inference mode cannot be trained on
        embeddings=torch.cat(embeddings).to(device),
        labels=torch.cat(labels).to(device),
        class_counts=plan.class_counts,
        seed=spec.seed,
    )
