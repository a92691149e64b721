"""Makes the golden files of losses with PyTorch and checkouts of the published code.

    pip install torch scipy
    git clone https://github.com/pseulki/IB-Loss                              # at b29b8b0
    git clone https://github.com/FlamieZhu/Balanced-Contrastive-Learning      # at f72d070
    git clone https://github.com/LeapLabTHU/ProCo                             # at af9e78e
    git clone https://github.com/dvlab-research/Parametric-Contrastive-Learning  # at fe56535
    git clone https://github.com/frank-xwang/RIDE-LongTailRecognition         # at ab8be5c
    python -m tests.losses.golden.make --influence IB-Loss --probabilistic ProCo \
        --balanced Balanced-Contrastive-Learning --parametric Parametric-Contrastive-Learning \
        --experts RIDE-LongTailRecognition

`influence.npz`, `balanced.npz`, `probabilistic.npz`, `parametric.npz` and `experts.npz` hold the
inputs of a loss, its value, and its gradients; `probabilistic.npz` also the class statistics before
and after. A file whose checkout is not given stays as it is. None of that code is part of ltjax: it
is imported from where it lies. Its calls of CUDA are left out, and the gathering over processes, of
which there is one.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tests.golden import published, write

FOLDER = Path(__file__).parent
COUNTS = np.array([500, 300, 180, 100, 60, 35, 20, 12, 8, 5])  # IB-Loss knows 10 classes


def drawn(*shape, seed=0, unit=False):
    """Random numbers, of norm 1 along the last axis if asked for."""
    x = np.random.RandomState(seed).standard_normal(shape)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True) if unit else x
    return x.astype(np.float32)


def leaf(array):
    """A tensor whose gradient is kept."""
    return torch.tensor(array, requires_grad=True)


def influence(folder):
    """IBLoss with the class weights of cifar_train.py, `--train_rule IBReweight`."""
    labels = np.random.RandomState(1).randint(0, 10, 12)
    logits, features = leaf(2 * drawn(12, 10)), leaf(drawn(12, 6, seed=2))
    weight = torch.tensor(1 / COUNTS / np.sum(1 / COUNTS) * 10, dtype=torch.float32)
    loss = published(folder, "losses").IBLoss(weight=weight, alpha=1000)
    size = features.abs().sum(1, keepdim=True)  # what its network returns beside the logits
    value = loss(logits, torch.tensor(labels), size)
    value.backward()
    return {
        "logits": logits.detach(),
        "features": features.detach(),
        "labels": labels,
        "counts": COUNTS,
        "value": value.detach(),
        "by_logits": logits.grad,
        "by_features": features.grad,
    }


def balanced(folder):
    """BalSCL on two views of eight images, of which one class has none."""
    labels = np.array([0, 0, 0, 1, 1, 2, 0, 4])
    vectors, centers = leaf(drawn(8, 2, 6, unit=True)), leaf(drawn(5, 6, seed=1, unit=True))
    loss = published(folder, "loss.contrastive").BalSCL([9, 5, 3, 2, 1], 0.1)
    value = loss(centers, vectors, torch.tensor(labels))
    value.backward()
    return {
        "vectors": vectors.detach(),
        "centers": centers.detach(),
        "labels": labels,
        "value": value.detach(),
        "by_vectors": vectors.grad,
        "by_centers": centers.grad,
    }


def probabilistic(folder):
    """ProCoLoss and its estimator in the second epoch, then LogitAdjust, on ten images."""
    module = published(folder / "ProCo_cifar", "loss.proco")
    module.dist.all_gather = lambda parts, own: parts[0].copy_(own)
    torch.Tensor.cuda = lambda self, *_: self
    torch.cuda.FloatTensor = lambda values: torch.tensor(values, dtype=torch.float32)
    adjusted = published(folder / "ProCo_cifar", "loss.logitadjust").LogitAdjust([9, 5, 3, 2])
    loss = module.ProCoLoss(contrast_dim=32, temperature=0.1, num_classes=4)
    one = SimpleNamespace(world_size=1)
    loss._hook_before_epoch(0, 2)
    near = drawn(4, 32, seed=3, unit=True)

    def batch(seed):
        labels = np.r_[0:4, np.random.RandomState(seed).randint(0, 4, 6)]
        vectors = near[labels] + 0.25 * drawn(10, 32, seed=seed)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), torch.tensor(labels)

    for seed in (4, 5):
        vectors, labels = batch(seed)
        loss(torch.tensor(vectors), labels, args=one)
    loss._hook_before_epoch(1, 2)
    before = {"mean": loss.estimator_old.Ave.clone(), "count": loss.estimator_old.Amount.clone()}
    vectors, labels = batch(6)
    vectors = leaf(vectors)
    logits = loss(vectors, labels, args=one)
    value = adjusted(logits, labels)
    value.backward()
    return {
        **before,
        "vectors": vectors.detach(),
        "labels": labels,
        "class_counts": np.array([9, 5, 3, 2]),
        "mean_after": loss.estimator_old.Ave,
        "mean_of_epoch": loss.estimator.Ave,
        "kappa": loss.estimator_old.kappa,
        "logits": logits.detach(),
        "value": value.detach(),
        "by_vectors": vectors.grad,
    }


def parametric(folder):
    """PaCoLoss of GPaCo, then that of PaCo, on two views of eight images and a queue of six."""
    weights = {"alpha": 0.05, "beta": 0.9, "gamma": 0.7, "temperature": 0.1}
    labels, counts = np.array([0, 0, 0, 1, 1, 2, 0, 4]), np.array([9, 5, 3, 2, 1])
    kept, kept_labels = drawn(6, 6, seed=2, unit=True), np.array([0, 3, 1, 0, 2, 4])
    everyone = torch.tensor(np.concatenate([labels, labels, kept_labels]))

    def of(method, vectors, rest, logits):
        module = published(folder / method / "LT", "losses")
        loss = module.PaCoLoss(**weights, K=len(kept), num_classes=len(counts))
        loss.weight = torch.tensor(counts / counts.sum(), dtype=torch.float32)[None]
        value = loss(torch.cat([vectors, *map(torch.tensor, rest)]), everyone, logits)
        value.backward()
        return value.detach()

    both, logits = drawn(16, 6, unit=True), drawn(16, 5, seed=1)
    vectors, of_both = leaf(both), leaf(logits)
    value = of("GPaCo", vectors, [kept], of_both)
    queries, of_queries = leaf(both[:8]), leaf(logits[:8])
    value_of_queries = of("PaCo", queries, [both[8:], kept], of_queries)
    return {
        **weights,
        "vectors": both,
        "logits": logits,
        "labels": labels,
        "queue": kept,
        "queue_labels": kept_labels,
        "class_counts": counts,
        "value": value,
        "by_vectors": vectors.grad,
        "by_logits": of_both.grad,
        "value_of_queries": value_of_queries,
        "by_queries": queries.grad,
        "by_their_logits": of_queries.grad,
    }


def experts(folder):
    """RIDELoss of three experts without margins, before its temperatures of classes begin."""
    labels, logits = np.random.RandomState(1).randint(0, 10, 8), leaf(2 * drawn(3, 8, 10))
    weight = 0.45
    loss = published(folder, "model.loss").RIDELoss(
        reweight_epoch=160, additional_diversity_factor=-weight
    )
    loss._hook_before_epoch(1)
    value = loss(logits.mean(0), torch.tensor(labels), {"logits": list(logits)})
    value.backward()
    return {
        "labels": labels,
        "logits": logits.detach(),
        "weight": weight,
        "value": value.detach(),
        "by_logits": logits.grad,
    }


MAKERS = {
    "influence": influence,
    "balanced": balanced,
    "probabilistic": probabilistic,
    "parametric": parametric,
    "experts": experts,
}

if __name__ == "__main__":
    write(__doc__, FOLDER, MAKERS)
