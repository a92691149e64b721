"""Stage two of the decoupled methods: the head alone, on a network that stage one trained.

    crt         a fresh head, trained on class-balanced batches
    lws         stage one's head times a scale per class, trained on class-balanced batches
    tau_norm    stage one's head with w_c / |w_c|^tau
    ncm         the cosine to each class's mean feature
    posthoc_la  stage one's head with b_c - tau log pi_c

All go through the one training loop, with its checkpoints, evaluation and report. The backbone,
the whitening and their statistics stay as stage one left them. An epoch of stage two is one
instance epoch, `ceil(N / batch_size)` steps, as everywhere here; the last three have no steps.

Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020); posthoc_la: Menon et
al., Long-tail learning via logit adjustment (ICLR 2021).
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError
from ltjax.evaluation.metrics import summarize
from ltjax.losses import log_prior
from ltjax.training import loop
from ltjax.training.build import build
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.loop import Beginning, Report, Session
from ltjax.training.multi_seed import unstack
from ltjax.training.progress import Watcher
from ltjax.training.state import TrainState, init_state
from ltjax.training.workdir import read_json

TAUS = np.arange(0.0, 2.01, 0.05)
NEEDS_LINEAR = ("lws", "tau_norm", "posthoc_la")
# What both stages must agree on: they make the data and the features.
SHARED = ("seeds", "data.", "model.", "whitening.")
OWN = ("model.head", "model.head_scale")


def run(config: Config, workdir: str | Path, *, watcher: Watcher | None = None) -> Report:
    """Runs either stage: `ltjax.training.loop.run`, for stage two from a stage one's workdir.

    Args:
      config: configuration; with `stage` other than "one", `init_from` is the workdir of a
        finished stage one of the same data, model and whitening.
      workdir: folder of this run; the same call on the same folder resumes it.
      watcher: shows progress.

    Raises:
      InputError: bad input; nothing of an earlier run is overwritten.
    """
    config = configs.resolve(config)
    if config.stage == "one":
        return loop.run(config, workdir, watcher=watcher)
    # A finished run needs its stage one no more.
    first = None if (Path(workdir) / "result.json").exists() else read_stage_one(config)

    def start(session: Session) -> Beginning:
        assert first is not None
        return begin(first, session)

    return loop.run(config, workdir, watcher=watcher, start=start)


class StageOne(NamedTuple):
    """A finished stage one: its folder and its resolved configuration."""

    path: Path
    config: Config


def read_stage_one(config: Config) -> StageOne:
    """Finds stage one and checks that stage two can build on it.

    Raises:
      InputError: it is absent, not finished, or of other data or another model.
    """
    path = Path(config.init_from)
    for name, what in (("config.json", "no workdir of a run"), ("result.json", "not finished")):
        if not (path / name).exists():
            raise InputError(
                f"config.init_from = {path} is {what} (it has no {name}); "
                "give the workdir of a finished stage one"
            )
    first = configs.resolve(read_json(path / "config.json"))
    flat, mine = first.flat(), config.flat()
    if first.stage != "one":
        raise InputError(f"config.init_from = {path} is itself a stage two; give its stage one")
    shared = [k for k in mine if k.startswith(SHARED) and k not in OWN]
    changed = configs.differences({k: mine[k] for k in shared}, {k: flat[k] for k in shared})
    if changed:
        raise InputError(
            f"config.init_from = {path} was trained otherwise (there -> here: "
            f"{'; '.join(changed)}); set these keys as there"
        )
    if config.stage in NEEDS_LINEAR and first.model.head != "linear":
        raise InputError(
            f"config.stage = {config.stage} needs a linear head, but stage one in {path} has "
            f"model.head = {first.model.head}; use crt or ncm"
        )
    return StageOne(path, first)


def restore(first: StageOne, session: Session) -> list[TrainState]:
    """The final states of stage one, one per seed."""
    job = build(first.config)
    if job.splits.train.fingerprint() != session.job.splits.train.fingerprint():
        raise InputError(f"config.init_from = {first.path}: the training images have changed")
    shape, ema = session.job.splits.train.image_shape, first.config.optimizer.ema_decay > 0
    like = jax.eval_shape(
        jax.vmap(lambda key: init_state(job.model, job.optimizer, key, shape, ema=ema)),
        jax.random.split(jax.random.key(0), len(first.config.seeds)),
    )
    checkpoints = Checkpoints(first.path / "checkpoints", keep=first.config.checkpoint.keep)
    if not checkpoints.steps():
        raise InputError(f"config.init_from = {first.path} holds no checkpoint; train it again")
    state = checkpoints.restore(checkpoints.steps()[-1], session.mapping.place(like)).state
    checkpoints.close()
    return unstack(state)


def begin(first: StageOne, session: Session) -> Beginning:
    """The states that stage two starts from: stage one's networks under their own heads."""
    begun = [
        _begin_seed(session, trained, session.seeds.state_of(index))
        for index, trained in enumerate(restore(first, session))
    ]
    states, found = zip(*begun, strict=True)
    facts: dict[str, Any] = {"init_from": str(first.path), "first_method": first.config.method}
    facts |= found[0] if len(found) == 1 else {"per_seed": list(found)}
    return Beginning(list(states), facts)


def _begin_seed(
    session: Session, trained: TrainState, own: TrainState
) -> tuple[TrainState, dict[str, Any]]:
    """One seed's state, and what there is to tell of it."""
    learned, stats = trained.variables["params"], trained.batch_stats
    dense, head = learned["head"].get("dense"), own.params["head"]
    # The head's inputs need the backbone and the whitening alone.
    state = own._replace(params={**learned, "head": head}, batch_stats=stats, ema=())
    facts: dict[str, Any] = {}
    match session.config.stage:
        case "lws":
            head = {"dense": dense, "scale": jnp.ones_like(dense["bias"])}
        case "tau_norm":
            tau, tried = choose_tau(session, state, np.asarray(dense["kernel"]))
            head = {"kernel": dense["kernel"], "tau": jnp.asarray(tau, jnp.float32)}
            facts = {"tau": tau, **tried}
        case "ncm":
            head = {"kernel": jnp.asarray(class_means(session, state).T)}
        case "posthoc_la":
            tau = session.config.loss.tau
            prior = log_prior(jnp.asarray(session.job.splits.train.class_counts))
            head = {"dense": {**dense, "bias": dense["bias"] - tau * prior}}
            facts = {"tau": tau}
    params = {**learned, "head": head}
    return state._replace(params=params, ema=params if own.ema else ()), facts


def class_means(session: Session, state: TrainState) -> np.ndarray:
    """Mean of the head's inputs over every class's training images, float32 `[C, D]`.

    Raises:
      InputError: a class has no training image.
    """
    train = session.job.splits.train
    counts = train.class_counts
    if not counts.all():
        raise InputError(
            f"class {int(np.argmin(counts))} has no training image, so it has no mean feature; "
            "use another config.stage"
        )
    features = session.seeds.predict(train, session.mapping.replicate(state)).whitened
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, train.labels, np.asarray(features, np.float64))
    return (sums / counts[:, None]).astype(np.float32)


def choose_tau(
    session: Session, state: TrainState, kernel: np.ndarray
) -> tuple[float, dict[str, Any]]:
    """The tau of the config, or the best on held-out training images, never on test images.

    Of several taus of equal balanced accuracy the middle one is taken (ours).

    Returns:
      tau, and the balanced accuracy of every tau tried.
    """
    if session.config.decoupled.tau is not None:
        return float(session.config.decoupled.tau), {}
    held = session.job.validation
    assert held is not None  # the config's check
    features = session.seeds.predict(held, session.mapping.replicate(state)).whitened
    norms = np.maximum(np.linalg.norm(kernel, axis=0), 1e-12)
    scores = [
        summarize(
            held.labels, np.argmax(features @ (kernel / norms**tau), axis=1), held.class_counts
        )
        for tau in TAUS
    ]
    balanced = np.array([score["balanced_accuracy"] for score in scores])
    best = np.flatnonzero(balanced == balanced.max())
    tau = round(float(TAUS[best[len(best) // 2]]), 2)
    tried = {f"{t:.2f}": round(float(b), 4) for t, b in zip(TAUS, balanced, strict=True)}
    return tau, {"held_out": len(held), "held_out_balanced_accuracy": tried}
