"""A run that starts from pretrained weights."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.models.pretrained import PRETRAINED
from ltjax.training.build import build, initial_state
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
    config.data.name = "digits"
    with pytest.raises(InputError, match=r"is for color images, and these are \(8, 8, 1\)"):
        build(configs.resolve(config))
