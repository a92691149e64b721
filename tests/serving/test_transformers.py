"""A small Vision Transformer through all modes, from a file of weights."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as exporting
from safetensors.numpy import save_file

from ltjax import config as configs
from ltjax.data.hub import weights_cache
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.pretrained import PRETRAINED, weights_of
from ltjax.models.pretrained.entries import OWN_FILES
from ltjax.models.pretrained.transformers import TIMM
from ltjax.models.pretrained.weights import shapes_of
from ltjax.serving import export, predict
from ltjax.serving import load as trained
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.models.golden.recipe import tensor

pytestmark = pytest.mark.slow
MODULE = make_backbone(ModelConfig(name="vit_tiny"))
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)


def tensors():
    places = TIMM.places(shapes_of(MODULE), MODULE).values()
    return {place.name: tensor(place.name, place.shape) for place in places}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer")
    save_file(tensors(), folder / "w.safetensors")
    np.savez(folder / "d.npz", images=IMAGES, labels=np.arange(64) % 4)
    config = configs.default()
    config.method, config.cpu_devices = "logit_adjustment", 1
    config.data.name, config.data.path = "npz", str(folder / "d.npz")
    config.data.profile, config.data.test_per_class = "as_is", 4
    config.model.name, config.model.weights = "vit_tiny", str(folder / "w.safetensors")
    config.train.epochs, config.train.batch_size, config.optimizer.warmup_epochs = 1, 16, 0
    config.optimizer.learning_rate = 1e-4
    run(config, folder / "run", watcher=SilentWatcher())
    return trained.load(folder / "run")


def test_training_starts_from_the_file(network):
    given = weights_of("w", (TIMM,), tensors(), MODULE).backbone["params"]
    there = network.variables["params"]["backbone"]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), given, there)
    assert 0 < max(jax.tree.leaves(moved)) < 0.1
    assert np.abs(given["positions"]).max() > 0.1  # so that others would be farther away


def test_an_exported_network_and_predictions_agree(network, tmp_path):
    export.write(network, tmp_path / "out")
    data = bytearray((tmp_path / "out" / "model.stablehlo").read_bytes())
    call = exporting.deserialize(data).call
    expected = np.asarray(jax.jit(trained.logits_function(network))(IMAGES))
    for count in (3, 64):
        found = np.asarray(call(IMAGES[:count]))
        np.testing.assert_allclose(found, expected[:count], atol=1e-5 * np.abs(expected).max())
    np.savez(tmp_path / "in.npz", images=IMAGES)
    predict.predict(network, tmp_path / "in.npz", tmp_path / "out.csv", top_k=1)
    with open(tmp_path / "out.csv", newline="") as file:
        classes = [int(row["class_1"]) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(classes, expected.argmax(1))


def test_embedding_needs_no_training(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry = OWN_FILES["vit_tiny"]._replace(source="hf:own/er", file="w.safetensors")
    monkeypatch.setitem(PRETRAINED, "tiny", entry)
    folder = weights_cache() / "own--er"
    folder.mkdir(parents=True)
    save_file(tensors(), folder / "w.safetensors")
    images = IMAGES[:4].repeat(4, 1).repeat(4, 2)  # of the entry's size
    np.savez(tmp_path / "in.npz", images=images)
    output = tmp_path / "out.npz"
    code, said = command(
        "--mode=embed", "--weights=tiny", f"--input={tmp_path / 'in.npz'}", f"--output={output}"
    )
    assert code == 0, said
    given = weights_of("w", (TIMM,), tensors(), MODULE).backbone
    pixels = (jnp.asarray(images, jnp.float32) / 255 - 0.5) / 0.5
    wanted = jax.jit(lambda x: MODULE.apply(given, x, train=False))(pixels)
    with np.load(output) as file:
        np.testing.assert_allclose(file["features"], wanted, atol=1e-4)
