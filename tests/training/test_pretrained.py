"""A run that starts from pretrained weights."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.models.pretrained import PRETRAINED
from ltjax.serving import export
from ltjax.serving.load import load
from ltjax.training.build import build, initial_state
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.helpers import small_config
from tests.models.test_pretrained import golden, state


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A run of ResNet-10, which torchvision does not have, from a file of its blocks."""
    entry = PRETRAINED["resnet18_v1"]._replace(backbone="resnet10")
    monkeypatch.setitem(PRETRAINED, "resnet10", entry)
    shapes = golden("basic")[1]
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("layer2.1.")}
    save_file(state(shapes), tmp_path / "w.safetensors")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 16, 16, 3)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(80) % 4)
    made = configs.default()
    made.method = "logit_adjustment"
    made.data.name, made.data.path = "npz", str(tmp_path / "d.npz")
    made.data.profile, made.data.test_per_class = "as_is", 5
    made.train.batch_size = 20
    made.optimizer.ema_decay = 0.9
    made.model.name, made.model.weights = "resnet10", str(tmp_path / "w.safetensors")
    return made


def test_the_backbone_starts_from_the_file(config):
    job = build(configs.resolve(config))
    np.testing.assert_allclose(job.data.mean, 255 * np.array([0.485, 0.456, 0.406]), rtol=1e-6)
    np.testing.assert_allclose(job.data.std, 255 * np.array([0.229, 0.224, 0.225]), rtol=1e-6)
    found = initial_state(job, 0)
    wanted = state({"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,)})
    kernel = wanted["conv1.weight"].transpose(2, 3, 1, 0)
    for params in (found.params, found.ema):
        np.testing.assert_array_equal(params["backbone"]["stem"]["kernel"], kernel)
        assert set(params) == {"backbone", "head"}
    mean = found.batch_stats["backbone"]["stem_norm"]["mean"]
    np.testing.assert_array_equal(mean, wanted["bn1.running_mean"])


def test_given_statistics_stay(config):
    config.data.statistics = (0.5, 0.5, 0.5, 0.25, 0.25, 0.25)
    np.testing.assert_allclose(build(configs.resolve(config)).data.mean, 127.5)


def test_bad_input(config, tmp_path):
    config.model.weights = "resnet50_v1"
    with pytest.raises(InputError, match=r"of the backbone resnet50; use config.model.name = resn"):
        configs.resolve(config)
    config.model.weights = str(tmp_path / "no.safetensors")
    with pytest.raises(InputError, match=r"no.safetensors cannot be read: No such file"):
        build(configs.resolve(config))
    config.model.weights = str(tmp_path / "w.safetensors")
    config.data.name, config.data.path = "digits", ""
    with pytest.raises(InputError, match=r"is for color images, and these are \(8, 8, 1\)"):
        build(configs.resolve(config))


@pytest.mark.slow
def test_a_run_starts_from_the_export_of_another(tmp_path):
    rng = np.random.default_rng(0)
    for name, classes in (("first", 4), ("second", 3)):
        images = rng.integers(0, 200, (40, 8, 8, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(40) % classes)

    def config(name, **more):
        data = {"name": "npz", "path": str(tmp_path / f"{name}.npz"), "profile": "as_is"}
        given = {f"data__{key}": value for key, value in data.items()} | more
        return small_config(
            model__name="convnet",
            model__width=8,
            model__hidden=(),
            data__test_per_class=2,
            train__batch_size=10,
            train__epochs=1,
            **given,
        )

    run(config("first"), tmp_path / "run", watcher=SilentWatcher())
    trained = load(tmp_path / "run")
    export.write(trained, tmp_path / "export")
    weights = tmp_path / "export" / "model.safetensors"

    second = config("second", model__weights=str(weights))
    job = build(configs.resolve(second))
    np.testing.assert_array_equal(job.data.mean, np.float32(trained.dataset["mean"]))
    np.testing.assert_array_equal(job.data.std, np.float32(trained.dataset["std"]))
    found = initial_state(job, 0)
    for kind, variables in (("params", found.params), ("batch_stats", found.batch_stats)):
        wanted = trained.variables[kind]["backbone"]
        jax.tree.map(np.testing.assert_array_equal, variables["backbone"], wanted)
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(found.params["head"])} == {3}
    assert not np.array_equal(
        found.batch_stats["whitening"]["mean"],
        trained.variables["batch_stats"]["whitening"]["mean"],
    )
    second.model.width = 4
    with pytest.raises(
        InputError, match=r"export/model.safetensors does not fit the backbone; of "
    ):
        build(configs.resolve(second))


def test_a_file_that_does_not_say_its_pixels(config, tmp_path):
    config.model.name = "convnet"
    with pytest.raises(InputError, match=r"do not say what pixels are normalized with; use the fi"):
        build(configs.resolve(config))
    header = b'{"__metadata__": {"normalization": "[1]"}}'
    for content in (
        b"",
        b"\xff" * 20,
        b"\x02" + b"\0" * 7 + b"[]",
        len(header).to_bytes(8, "little"),
    ):
        (tmp_path / "w.safetensors").write_bytes(content + header)
        with pytest.raises(InputError, match=r"do not say what pixels"):
            build(configs.resolve(config))
    config.data.statistics = "cifar"
    with pytest.raises(InputError, match=r"does not fit the backbone; missing: batch_stats/backb"):
        build(configs.resolve(config))
