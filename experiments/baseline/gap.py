"""What training sees of a whitened feature and what evaluation sees, of a finished run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.features import features as features_of
from experiments.features import images_of
from ltjax.evaluation.diagnostics import covariance_stability
from ltjax.serving.load import load
from ltjax.training.build import build
from ltjax.whitening.linen import StandardizedWhitening

BATCHES = 20


def _on_one_device(layer):
    if isinstance(layer, StandardizedWhitening):
        return layer.clone(
            standardize=layer.standardize.clone(axis_name=None),
            whiten=layer.whiten.clone(axis_name=None),
        )
    return layer.clone(axis_name=None)


def accuracy_of_halves(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> dict[str, float]:
    """How well the directions of most and of least variance tell the test images apart.

    Nearest class mean, fitted on the training features, in one half of the eigenvectors of their
    covariance, all at unit variance, as whitening shows them to the classifier. Directions
    without variance are left out. Balanced accuracy.
    """
    x, t = train.astype(np.float64), test.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
    alive = values > 1e-6 * values[-1]
    scaled = vectors[:, alive] / np.sqrt(values[alive])
    middle = scaled.shape[1] // 2
    classes = np.unique(train_labels)
    found = {}
    for half, part in (("low", scaled[:, :middle]), ("high", scaled[:, middle:])):
        seen, asked = x @ part, t @ part
        means = np.stack([seen[train_labels == c].mean(axis=0) for c in classes])
        distance = (means**2).sum(axis=1) - 2 * asked @ means.T
        hits = classes[distance.argmin(axis=1)] == test_labels
        found[f"{half}_half_accuracy"] = float(
            np.mean([hits[test_labels == c].mean() for c in classes])
        )
    return found


def measure(workdir: Path) -> dict[str, float]:
    """The gap between training and evaluation, and where the classifier looks.

    Of training batches of the run's own plan, without augmentation:

    - `noise`: relative deviation of the batch's covariance from that of all batches;
    - `gap`: `|z_batch - z_running| / |z_running|`, Frobenius, of the classifier's input;
    - `train_accuracy_batch`, `train_accuracy_running`: with the batch's and running statistics;
    - `test_accuracy_batch`: of the test images with the statistics of test batches of that size;
    - `low_half_accuracy`, `high_half_accuracy`: of `accuracy_of_halves`.

    Of the running covariance's eigenvectors: `low_half_energy`, the share of the classifier's
    squared weights, as it sees the unwhitened (or standardized) features, in the half of the
    directions of least variance.
    """
    trained = load(workdir)
    job, model = build(trained.config), trained.model
    train, test, plan = job.data.train, job.data.test, job.samplers[0]
    features = features_of(trained, images_of(train))
    batches = np.stack([plan[step] for step in range(BATCHES)])
    tested = features_of(trained, images_of(test))
    found = {"noise": float(covariance_stability(features, batches).mean())}
    found |= accuracy_of_halves(features, train.labels, tested, test.labels)
    head = {"params": trained.variables["params"]["head"]}

    def classes(inputs):
        """What the head says of its inputs."""
        return jnp.argmax(jnp.asarray(model.head.apply(head, inputs)), axis=-1)

    if model.whitening is None:
        rows = batches.ravel()
        predicted = np.asarray(classes(features[rows]))
        return found | {"train_accuracy_running": float(np.mean(predicted == train.labels[rows]))}
    layer = _on_one_device(model.whitening)
    stats = {"batch_stats": trained.variables["batch_stats"]["whitening"]}

    @jax.jit
    def both(rows):
        running = layer.apply(stats, rows, use_running_average=True)
        batch, _ = layer.apply(stats, rows, use_running_average=False, mutable=["batch_stats"])
        gap = jnp.linalg.norm(batch - running) / jnp.linalg.norm(running)
        return gap, *(classes(z) for z in (batch, running))

    gaps, of_batch, of_running = [], [], []
    for rows in batches:
        gap, a, b = both(features[rows])
        gaps.append(float(gap))
        of_batch.append(np.mean(np.asarray(a) == train.labels[rows]))
        of_running.append(np.mean(np.asarray(b) == train.labels[rows]))
    order = np.random.default_rng(0).permutation(len(test))
    size = plan.batch_size
    hits = [
        np.mean(np.asarray(both(tested[rows])[1]) == test.labels[rows])
        for rows in np.split(order[: len(order) // size * size], len(order) // size)
    ]
    found |= {
        "gap": float(np.mean(gaps)),
        "train_accuracy_batch": float(np.mean(of_batch)),
        "train_accuracy_running": float(np.mean(of_running)),
        "test_accuracy_batch": float(np.mean(hits)),
    }
    last = stats["batch_stats"].get("whiten", stats["batch_stats"])
    covariance = np.asarray(last["covariance"], np.float64)
    if covariance.ndim == 2:
        kernel = next(np.asarray(x, np.float64) for x in jax.tree.leaves(head) if x.ndim == 2)
        shrinkage = float(np.asarray(last["shrinkage"]))
        values, vectors = np.linalg.eigh(covariance)
        ridged = (1 - shrinkage) * values + shrinkage * values.mean()
        seen = (vectors.T @ kernel) ** 2 / ridged[:, None]
        found["low_half_energy"] = float(seen[: len(values) // 2].sum() / seen.sum())
    return found
