"""Every key is checked; methods fill what is auto; the documented table is the real one."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from flax.traverse_util import unflatten_dict

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.training.workdir import Workdir

ROOT = Path(__file__).parents[2]


def test_default_resolves_without_auto():
    resolved = configs.resolve(configs.default())
    flat = configs.flatten(configs.default())
    assert set(flat) == set(configs.SCHEMA)
    values = configs.flatten(resolved)
    kept = ["data.residency", "engine.native"]  # the data and the run's length decide
    assert [key for key, value in values.items() if value == "auto"] == kept
    assert resolved.data.seed == 0
    with pytest.raises(AttributeError):
        resolved.seed = 1


@pytest.mark.parametrize("method", list(configs.METHODS))
def test_methods(method):
    config = configs.default()
    config.method = method
    resolved = configs.resolve(config)
    for path, value in configs.METHODS[method].items():
        assert configs.get(resolved, path) == value


STORED = json.loads((ROOT / "tests" / "config" / "stored.json").read_text())


def test_a_stored_configuration_stays_valid(tmp_path):
    """The config.json of a run of the digits, written before options were dataclasses."""
    config = configs.default()
    config.checkpoint.every_epochs = 50
    config.engine.native = "off"  # what there was before the key
    # Its losses are those that it was trained with, not of today's defaults.
    config.loss.prior, config.loss.weighted_mean, config.loss.seesaw_floor = "data", False, 0.0
    resolved = configs.resolve(config)
    assert configs.resolve(STORED) == resolved
    flat, stored = resolved.flat(), configs.flatten(STORED)
    assert {key: flat[key] for key in stored} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }
    later = {key: flat[key] for key in flat if key not in stored}
    assert later == {key: configs.SCHEMA[key].older for key in later}
    assert configs.differences(flat, configs.completed(stored)) == []
    (tmp_path / "config.json").write_text(json.dumps(STORED))
    with Workdir(tmp_path, resolved).held():  # a resume is not refused
        pass
    other = dataclasses.replace(resolved, seed=1)
    with pytest.raises(InputError, match=r"seed: 0 -> 1"), Workdir(tmp_path, other).held():
        pass


@pytest.mark.parametrize("prior", ["data", "plan", None])
def test_a_stored_run_keeps_the_prior_it_was_trained_with(tmp_path, prior):
    """`plan` counts the draws of the first epoch; a file without the key is of the data's prior."""
    stored = json.loads(json.dumps(STORED))
    if prior is None:
        del stored["loss"]["prior"]
    else:
        stored["loss"]["prior"] = prior
    resolved = configs.resolve(stored)
    assert resolved.loss.prior == (prior or "data")
    (tmp_path / "config.json").write_text(json.dumps(stored | {"loss": resolved.nested()["loss"]}))
    Workdir(tmp_path, resolved)  # a resume is not refused
    assert configs.default().loss.prior == "sampler"


def test_as_config_dict_can_be_changed_and_resolved_again():
    resolved = configs.resolve(STORED)
    config = configs.as_config_dict(resolved)
    assert configs.resolve(config) == resolved
    config.data.limit = 7  # None so far
    config.optimizer.learning_rate = 1  # an integer for a float
    config.whitening.shrinkage = "oas"  # text for a number
    changed = configs.resolve(config)
    assert (changed.data.limit, changed.whitening.shrinkage) == (7, "oas")
    assert isinstance(changed.optimizer.learning_rate, float)
    with pytest.raises(TypeError):
        config.train.epochs = "many"


WRONG_TYPES = {
    "method": 3,
    "data.path": 3,
    "data.limit": "foo",
    "train.epochs": 1.5,
    "train.batch_size": True,
    "optimizer.learning_rate": "fast",
    "optimizer.momentum": False,
    "optimizer.nesterov": 1,
    "seeds": 0,
    "seeds ": ("0",),
    "profile_steps": 3,
    "whitening.shrinkage": (0.1,),
    "train.log_every_steps": None,
}


@pytest.mark.parametrize("path", WRONG_TYPES)
def test_wrong_types_are_named_with_what_is_allowed(path):
    value, path = WRONG_TYPES[path], path.strip()
    flat = configs.flatten(STORED) | {path: value}
    with pytest.raises(InputError, match="is not allowed; use") as caught:
        configs.resolve(unflatten_dict(flat, sep="."))
    message = str(caught.value)
    assert f"config.{path} = {value!r}" in message
    assert configs.SCHEMA[path].allowed in message


def test_explicit_value_beats_the_method():
    config = configs.default()
    config.whitening.method = "none"
    config.seed = 3
    config.data.seed = 5
    resolved = configs.resolve(config)
    assert resolved.whitening.method == "none"
    assert resolved.data.seed == 5


BAD = {
    "method": "x",
    "seed": -1,
    "cpu_devices": 0,
    "data.imbalance_factor": 0.9,
    "data.test_per_class": 0,
    "model.width": -4,
    "whitening.shrinkage": 0.0,
    "whitening.momentum": 1.0,
    "plan.balance": 1.1,
    "plan.every": 0,
    "plan.fraction": 0.0,
    "loss.tau": float("nan"),
    "loss.embedded_weight": -0.1,
    "optimizer.learning_rate": 0.0,
    "train.batch_size": 0,
    "train.epochs": -1,
    "checkpoint.keep": 0,
}


@pytest.mark.parametrize("path", BAD)
def test_values_out_of_range_name_key_value_and_range(path):
    config = configs.default()
    configs.put(config, path, BAD[path])
    with pytest.raises(ValueError, match="is not allowed; use") as caught:
        configs.resolve(config)
    message = str(caught.value)
    assert f"config.{path} = {BAD[path]!r}" in message
    assert configs.SCHEMA[path].allowed in message
    assert "\n" not in message


def test_unknown_and_missing_keys():
    config = configs.default()
    config.train.batchsize = 3
    with pytest.raises(ValueError, match=r"config.train.batchsize is not a key; did you mean"):
        configs.resolve(config)
    config = configs.default()
    del config.train.epochs
    with pytest.raises(ValueError, match=r"config.train.epochs is missing"):
        configs.resolve(config)


TOGETHER = {
    "swa_epochs": {"optimizer.ema_decay": 0.9, "optimizer.swa_epochs": 2},
    "train.mixing = none": {"train.regmixup": True},
    "model.name = convnet": {"model.stochastic_depth": 0.1},
    "train.mixing = mixup": {"loss.contrastive": 1.0, "method": "mixup"},
    "finetune.train = head": {
        "loss.contrastive": 1.0,
        "finetune.train": "head",
        "model.name": "efficientnet_lite0",
        "model.weights": "efficientnet_lite0",
    },
}


@pytest.mark.parametrize("words", TOGETHER)
def test_values_that_do_not_go_together(words):
    config = configs.default()
    for path, value in TOGETHER[words].items():
        configs.put(config, path, value)
    with pytest.raises(InputError, match=f"is not allowed with.*{words}"):
        configs.resolve(config)


def test_images_have_the_size_that_a_pretrained_network_has_learned():
    def size(name, weights, given=None):
        config = configs.default()
        config.data.name, config.data.image_size = name, given
        config.model.name, config.model.weights = "efficientnet_lite0", weights
        return configs.resolve(config).data.image_size

    assert size("cifar10", "efficientnet_lite0") == 224
    assert size("cifar10", "efficientnet_lite0", 64) == 64
    assert size("cifar10", "") is None
    assert size("npz", "efficientnet_lite0") is None


def test_what_is_for_images_is_refused_on_features():
    config = configs.default()
    config.data.name, config.data.path, config.model.name = "features", "x.npy", "mlp"
    config.augment.max_shift, config.train.mixing = 0, "cutmix"
    with pytest.raises(InputError, match=r"train.mixing = cutmix is not allowed with"):
        configs.resolve(config)
    config.train.mixing, config.loss.contrastive = "none", 1.0
    with pytest.raises(InputError, match=r"contrastive = 1.0 is not allowed with.*data.name"):
        configs.resolve(config)


def test_groups_may_not_overlap():
    config = configs.default()
    config.evaluation.few_below = 150
    with pytest.raises(ValueError, match="groups would overlap"):
        configs.resolve(config)


def test_devices_must_divide_the_batches():
    config = configs.default()
    config.train.batch_size = 66
    resolved = configs.resolve(config)
    configs.check_devices(resolved, 2)
    with pytest.raises(ValueError, match=r"train.batch_size = 66 is not divisible by the 4"):
        configs.check_devices(resolved, 4)


def test_differences():
    assert configs.differences({"a": 1, "b": 2}, {"a": 1, "b": 3}) == ["b: 3 -> 2"]
    assert configs.differences({"a": 1}, {}) == ["a: (absent) -> 1"]
    assert configs.differences({"cpu_devices": 1}, {"cpu_devices": 4}) == []
    assert set(configs.FREE_ON_RESUME) < set(configs.SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[!_]*.py")), ids=lambda p: p.name)
def test_config_files_resolve(path):
    spec = importlib.util.spec_from_file_location("config_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(configs.resolve(module.get_config()), configs.Config)


def test_documented_keys_are_the_real_ones():
    assert configs.key_table() in (ROOT / "docs" / "config.md").read_text()


@pytest.mark.parametrize(("name", "side"), [("vit_b14_dinov2", 28), ("vit_b16", 32)])
def test_shrunk_images_have_whole_patches(name, side):
    config = configs.default()
    config.runlocal, config.model.name = True, name
    config.data.name, config.data.image_size = "tfds", 224
    assert configs.resolve(config).data.image_size == side
