"""Every method of docs/recipes.md and of docs/losses.md is one that runs."""

import ast
import importlib
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.config.recipes import METHODS, STAGES
from ltjax.data.loader import Batch
from ltjax.training.build import build, initial_state, keys
from ltjax.training.inputs import AXIS, Resident

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(--config\.method=.*?)` \|", re.MULTILINE)
RECIPES = ROW.findall((ROOT / "docs" / "recipes.md").read_text())


def parsed(recipe):
    """The configuration that a recipe's flags make."""
    config = configs.default()
    for flag in recipe.split():
        path, text = flag.removeprefix("--config.").split("=", 1)
        default = configs.SCHEMA[path].default
        value = text if isinstance(default, str) else ast.literal_eval(text)
        configs.put(config, path, value)
    return config


def test_every_method_and_stage_has_a_recipe():
    found = [parsed(recipe) for recipe in RECIPES]
    assert {c.method for c in found} == set(METHODS)
    assert {c.stage for c in found} == set(STAGES)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_its_step_can_be_traced(recipe):
    config = configs.resolve(parsed(recipe))
    job = build(config)
    embeds = any(job.samplers[0].flags(step).any() for step in range(job.steps_per_epoch))
    assert embeds == (job.embedded_weight is not None)  # BET's loss side goes with the flags
    image = job.data.train.images.shape[1:]
    size = config.train.batch_size

    def step():
        _, augment = keys(0)
        state = initial_state(job, 0)
        mixed = () if job.mixing is None else job.mixing.init(np.ones(10, np.int32))
        state_of_loss = job.losses[0].init(*job.classes[0])
        data = Resident(
            job.data.train.images,
            *(np.ones(image[-1], np.float32),) * 2,
            state_of_loss,
            augment,
            mixed,
        )
        numbers, flags = np.zeros((1, size), np.int32), np.ones((1, size), bool)
        batch = Batch(numbers, numbers, numbers, flags, flags)
        return jax.vmap(job.train_step, in_axes=(None, None, 0), axis_name=AXIS)(state, data, batch)

    _, metrics = jax.eval_shape(step)
    assert metrics["loss"].shape == (1,)


def test_losses_document_names_every_setting():
    text = (ROOT / "docs" / "losses.md").read_text()
    for key in ("loss.name", "loss.weighting", "loss.smoothing", "train.mixing", "model.head"):
        names = configs.SCHEMA[key].allowed.removeprefix("one of ").split(", ")
        for name in set(names) - {"auto", "none"}:
            assert f"{key}={name}" in text or f"| `{name}` |" in text, f"{key}={name}"
    for stage in set(STAGES) - {"one"}:
        assert f"| `{stage}` |" in text


SWITCH = re.compile(
    r"^\| [^|]* \| ([^|]*) \| `--config\.(\S+?)=(\S+)` \| [a-z]* ?\|$", re.MULTILINE
)
STRONG = ("cifar10_lt_strong", "cifar100_lt_strong", "imagenet_lt_strong")


@pytest.mark.parametrize("name", STRONG)
def test_every_part_of_a_strong_recipe_is_on_and_has_its_switch(name):
    text = (ROOT / "docs" / "recipes.md").read_text().split("## Strong recipes")[1]
    rows = SWITCH.findall(text.split("## The keys")[0])
    mine = [row[1:] for row in rows if name in row[0] or row[0] == "all"]
    assert len(rows) == 6
    assert len(mine) == (4 if name == "imagenet_lt_strong" else 5)
    make = importlib.import_module(f"ltjax.configs.{name}").get_config
    on = configs.resolve(make())
    for key, off in mine:
        config = make()
        value = off if isinstance(configs.get(on, key), str) else ast.literal_eval(off)
        assert configs.get(on, key) != value
        configs.put(config, key, value)
        assert configs.get(configs.resolve(config), key) == value
    plain = importlib.import_module(f"ltjax.configs.{name.removesuffix('_strong')}").get_config()
    assert on.data == configs.resolve(plain).data
    everything_off = make()
    for key, off in mine:
        text = isinstance(configs.get(on, key), str)
        configs.put(everything_off, key, off if text else ast.literal_eval(off))
    configs.resolve(everything_off)
