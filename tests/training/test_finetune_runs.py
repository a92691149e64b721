"""A tiny Vision Transformer under each kind of fine-tuning, from the first step to the export.

The networks start from random numbers, which `runlocal` allows.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import export

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.models import registry
from ltjax.models.adapters import merged
from ltjax.models.finetune import learned
from ltjax.models.vit import ViTShape
from ltjax.serving.export import write
from ltjax.serving.load import load, logits_function
from ltjax.training import finetune
from ltjax.training.build import build, initial_state
from ltjax.training.devices import Mapping
from ltjax.training.multi_seed import Seeds
from ltjax.training.progress import SilentWatcher
from ltjax.training.restore import restore_states
from ltjax.training.run import run as train
from ltjax.training.state import with_backbone
from ltjax.training.workdir import read_finished
from tests.helpers import small_config
from tests.training.watchers import KillAt, Killed, saved

pytestmark = pytest.mark.slow

# Another kind of head and of start for some, so that these are trained too.
KINDS = {
    "all": {"finetune__layer_decay": 0.5},
    "head": {"augment__max_shift": 0, "method": "cw_la", "model__head_init": "class_means"},
    "last_1": {},
    "norm_and_bias": {},
    "lora": {"finetune__lora_rank": 2, "model__head": "cosine", "model__head_init": "class_means"},
    "adapter": {"finetune__adapter_width": 3, "finetune__adapter_scale": 1.0},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    shape = ViTShape(width=16, depth=2, heads=2, patch=4, grid=2, registers=1, layer_scale=False)
    monkeypatch.setitem(registry.BACKBONES, "vit_tiny", partial(registry._vit, shape))


def config(kind, **overrides):
    """Two epochs of 27 steps on images of digits, each with a checkpoint."""
    given = {
        "runlocal": True,
        "method": "ce",
        "model__name": "vit_tiny",
        "model__hidden": (),
        "finetune__train": kind,
        "train__batch_size": 16,
        "train__epochs": 2,
        "checkpoint__every_epochs": 1,
        "optimizer__learning_rate": 0.05,
        "cpu_devices": 4,
    }
    return small_config(**{**given, **KINDS[kind], **overrides})


def run(folder, kind, watcher=None, **overrides):
    return train(config(kind, **overrides), folder, watcher=watcher or SilentWatcher())


def final(folder):
    (state,) = restore_states(read_finished(folder), Mapping(jax.devices()[:1]))
    return state


def side_by_side(job, kind, devices):
    """The seeds of a run on so many devices, at its start."""
    seeds = Seeds(job, Mapping(jax.devices()[:devices]))
    settings = configs.resolve(config(kind))
    if finetune.begins(settings):
        seeds.take_over(finetune.begin(settings, seeds))
    return seeds


def after(seeds, first, last):
    """The state after the steps from `first` to `last`."""
    for step in range(first, last):
        seeds.step(seeds.load(step, 1))
    return jax.device_get(seeds.stacked())


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_resume(kind):
    job = build(configs.resolve(config(kind)))
    seeds = side_by_side(job, kind, 4)
    before = after(seeds, 0, 0)
    middle = after(seeds, 0, 2)
    whole = after(seeds, 2, 4)
    seeds.restore(middle)
    jax.tree.map(np.testing.assert_array_equal, after(seeds, 2, 4), whole)
    one = after(side_by_side(job, kind, 1), 0, 4)
    compared = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(compared, one.params, whole.params)
    seeds.close()
    _only_what_learns_has_moved(kind, before, whole)


def _only_what_learns_has_moved(kind, before, whole):
    old, new = flatten_dict(before.params), flatten_dict(whole.params)
    assert old.keys() == new.keys()
    moved = {path for path in old if not np.array_equal(old[path], new[path])}
    chosen = learned(old, kind)
    # A key's bias has no gradient: it shifts all scores of a query alike.
    still = {path for path in chosen if path[-2:] == ("key", "bias")}
    assert chosen - still <= moved <= chosen
    momentum = sum(leaf.size for leaf in jax.tree.leaves(whole.opt_state) if leaf.ndim > 1)
    assert momentum == sum(old[path].size for path in chosen)


@pytest.mark.parametrize("kind", ["all", "head", "lora", "adapter"])
def test_a_run_is_killed_resumed_and_exported(kind, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, kind, KillAt(30))
    assert saved(tmp_path) == [27]
    run(tmp_path, kind)
    run(tmp_path / "whole", kind)
    state = final(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, final(tmp_path / "whole"))
    _export_has_the_logits(tmp_path, state)
    if kind not in ("lora", "adapter"):
        return
    second = tmp_path / "second"
    head = {"model__head": "linear", "model__head_init": "random"}
    run(second, kind, stage="crt", init_from=str(tmp_path), **head)
    found = load(second).variables["params"]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, found, merged(state.params)["backbone"])


def _export_has_the_logits(tmp_path, state):
    trained = load(tmp_path)
    assert "lora" not in trained.variables["params"]
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    write(trained, tmp_path / "export")
    program = export.deserialize((tmp_path / "export" / "model.stablehlo").read_bytes())
    found = program.call(images)
    np.testing.assert_allclose(found, logits_function(trained)(images), rtol=1e-4, atol=1e-5)
    # And those of the parameters as they are trained.
    variables = {**trained.variables, "params": merged(state.params)}
    wanted = logits_function(trained._replace(variables=variables))(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_cached_features_train_as_the_network_does(tmp_path, monkeypatch):
    run(tmp_path / "cached", "head")
    monkeypatch.setattr("ltjax.training.build.caches_features", lambda *_: False)
    run(tmp_path / "not", "head")
    compared = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(compared, final(tmp_path / "cached"), final(tmp_path / "not"))


def test_a_head_of_given_vectors(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(10, 16)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    given = {"model__head": "cosine", "model__head_init": str(tmp_path / "v.npy")}
    run(tmp_path / "run", "last_1", optimizer__learning_rate=1e-9, **given)
    kernel = final(tmp_path / "run").params["head"]["kernel"]
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    np.testing.assert_allclose(kernel.T, units, rtol=1e-4, atol=1e-6)
    np.save(tmp_path / "v.npy", vectors[:, :15])
    with pytest.raises(InputError, match=r"has the shape \(10, 15\); 10 classes .* \(10, 16\)"):
        run(tmp_path / "other", "last_1", **given)


def test_weights_of_a_file_leave_adapters_as_they_are():
    state = initial_state(build(configs.resolve(config("adapter"))), 0)
    norm = {"norm": {"scale": 2 * jnp.ones(16)}}
    found = with_backbone(state, {"params": norm}).params["backbone"]
    assert float(found["norm"]["scale"][0]) == 2
    assert found["block0"]["adapter"]["down"]["kernel"].shape == (16, 3)


def test_networks_without_a_place_for_adapters(tmp_path):
    with pytest.raises(InputError, match=r"adapter is not allowed with a ConvNet"):
        run(tmp_path, "adapter", model__name="convnet")
