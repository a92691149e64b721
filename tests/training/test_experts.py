"""Several heads: their loss, devices, one dense layer, a second stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import expert_diversity
from ltjax.models import ModelConfig, make_head
from ltjax.serving.load import folded_function, load, logits_function
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.helpers import tiny_config
from tests.training.test_step import assert_close, train

THREE = {"model__experts": 3, "optimizer__warmup_epochs": 0}


def test_heads_are_averaged_and_folded():
    head = make_head(ModelConfig(head="linear", experts=3), 4)
    z = jax.random.normal(jax.random.key(0), (5, 6))
    params = head.init(jax.random.key(1), z)["params"]
    logits, left = head.apply({"params": params}, z, mutable=["experts"])
    dense = [params[f"heads_{i}"]["dense"] for i in range(3)]
    each = [np.asarray(z) @ d["kernel"] + d["bias"][None] for d in dense]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    np.testing.assert_allclose(left["experts"]["found"], each, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)
    kernel, bias = head.as_dense(params)
    np.testing.assert_allclose(z @ kernel + bias[None], logits, rtol=1e-4, atol=1e-6)
    cosine = make_head(ModelConfig(head="cosine", experts=2), 4)
    with pytest.raises(InputError, match="cannot be folded"):
        cosine.as_dense(cosine.init(jax.random.key(1), z)["params"])


@pytest.mark.slow
def test_the_loss_is_the_mean_of_the_heads_less_their_diversity(devices):
    one, losses = train(1, 2, **THREE)
    four, four_losses = train(4, 2, **THREE)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())
    # Heads that are alike stay alike, and train as one of them.
    seeds, _ = train(1, 0, **THREE, loss__diversity=9.0)
    state = seeds.state_of(0)
    head = state.params["head"]
    alike = {name: jax.tree.map(jnp.copy, head["heads_1"]) for name in head}
    seeds.states[0] = state._replace(params={**state.params, "head": alike})
    single, _ = train(1, 0, optimizer__warmup_epochs=0)
    own = single.state_of(0).params
    given = {
        **jax.tree.map(jnp.copy, state.params),
        "head": jax.tree.map(jnp.copy, alike["heads_1"]),
    }
    assert jax.tree.structure(own) == jax.tree.structure(given)
    before = np.asarray(given["head"]["dense"]["kernel"]).copy()
    single.states[0] = single.states[0]._replace(params=given)
    found, wanted = (s.gather_metrics([s.step(s.load(0, 3))])["loss"] for s in (seeds, single))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    trained, whole = seeds.state_of(0).params, single.state_of(0).params
    assert_close(trained, {**whole, "head": dict.fromkeys(head, whole["head"])})
    assert np.abs(before - whole["head"]["dense"]["kernel"]).max() > 1e-3


@pytest.mark.slow
def test_the_diversity_is_that_of_the_adjusted_logits(devices):
    """The logits are biases alone, so that the heads tell the same of every image."""
    losses, biases = [], np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    for weight in (0.0, 9.0):
        seeds, _ = train(1, 0, **THREE, method="cw_la", loss__diversity=weight)
        state = seeds.state_of(0)
        head = {
            name: {"dense": {"kernel": jnp.zeros_like(old["dense"]["kernel"]), "bias": bias}}
            for (name, old), bias in zip(state.params["head"].items(), biases, strict=True)
        }
        seeds.take_over([state._replace(params={**state.params, "head": head})])
        losses.append(seeds.gather_metrics([seeds.step(seeds.load(0, 1))])["loss"].item())
    counts = np.asarray(seeds.job.data.train.class_counts)
    adjusted = biases + np.log(counts / counts.sum()).astype(np.float32)
    apart = float(expert_diversity(adjusted[:, None])[0])
    assert losses[0] - losses[1] == pytest.approx(9 * apart, rel=1e-4)


@pytest.mark.slow
def test_a_run_is_served_and_goes_on_in_a_second_stage(tmp_path):
    run(tiny_config(method="cw_la", model__experts=2), tmp_path / "one", watcher=SilentWatcher())
    trained = load(tmp_path / "one")
    function, folded = folded_function(trained)
    assert folded
    images = np.random.default_rng(0).integers(0, 256, (4, *trained.image_shape), dtype=np.uint8)
    whole = jax.jit(logits_function(trained))(images)
    np.testing.assert_allclose(jax.jit(function)(images), whole, rtol=1e-3, atol=1e-3)
    second = tiny_config(method="cw_la", stage="posthoc_la", init_from=str(tmp_path / "one"))
    run(second, tmp_path / "two", watcher=SilentWatcher())
    heads = trained.variables["params"]["head"]
    kernel = np.mean([heads[f"heads_{i}"]["dense"]["kernel"] for i in range(2)], axis=0)
    found = load(tmp_path / "two").variables["params"]["head"]["dense"]["kernel"]
    np.testing.assert_allclose(found, kernel, rtol=1e-6)
    with pytest.raises(InputError, match=r"model.experts = 2 is not allowed with config.stage"):
        run({**second.to_dict(), "model": {**second.model.to_dict(), "experts": 2}}, tmp_path)
