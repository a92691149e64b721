"""A damaged checkpoint is never restored: flipped bits, other steps, files of other checkpoints."""

import json
import os
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.training.checkpoint import Checkpoints, DamagedError, digest_of_arrays
from ltjax.training.state import TrainState

META = {"seeds": [0], "plan": ["a"], "environment": {"JAX_ENABLE_X64": False}, "seconds": 0.1 + 0.2}
FLIPS_PER_FILE = 4


def state():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(40, 30)).astype(np.float32))
    return TrainState(
        jnp.asarray(7, jnp.int32), {"head": {"kernel": kernel}}, {"mean": kernel[0]}, (kernel,)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(7, state(), META)
    checkpoints.close()
    return folder


def read(folder):
    checkpoints = Checkpoints(folder, keep=2)
    try:
        return checkpoints.restore_newest(state(), lambda path, meta: None)
    finally:
        checkpoints.close()


def is_whole(restored):
    same = digest_of_arrays(restored.state) == digest_of_arrays(state())
    return same and META.items() <= restored.meta.items()


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_a_checkpoint_comes_back(written):
    step, restored, lines = read(written)
    assert step == 7
    assert is_whole(restored)
    assert lines == []


@pytest.mark.slow
def test_no_flipped_bit_is_restored(written, tmp_path):
    rng, refused = random.Random(0), 0
    files = [p.relative_to(written) for p in sorted(written.rglob("*")) if p.stat().st_size > 0]
    files = [p for p in files if (written / p).is_file()]
    for file in files:
        for _ in range(FLIPS_PER_FILE):
            folder = tmp_path / "checkpoints"
            shutil.copytree(written, folder)
            flip(folder / file, rng)
            try:
                found = read(folder)
            except DamagedError as e:
                refused += "\n" not in str(e)
            else:
                assert found is not None, file
                assert is_whole(found[1]), file
            shutil.rmtree(folder)
    assert refused > len(files)  # the others hit what decides nothing


def changed_meta(folder, change):
    file = folder / "7" / "meta" / "metadata"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(seconds=0.5),
        lambda meta: meta.pop("sha256"),
        lambda meta: meta["sha256"].update(arrays="0" * 64),
        lambda meta: meta.update(sha256=None),
    ],
)
def test_changed_metadata_is_damage(written, tmp_path, change):
    shutil.copytree(written, tmp_path / "checkpoints")
    changed_meta(tmp_path / "checkpoints", change)
    with pytest.raises(DamagedError, match="cannot be read"):
        read(tmp_path / "checkpoints")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("item", ["meta/metadata", "state/d/fifo"])
def test_a_checkpoint_with_what_is_no_file_is_damage(written, tmp_path, item):
    shutil.copytree(written, tmp_path / "checkpoints")
    path = tmp_path / "checkpoints" / "7" / item
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(DamagedError, match="it is a named pipe"):
        read(tmp_path / "checkpoints")


def test_a_checkpoint_under_another_step_is_damage(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "7").rename(tmp_path / "checkpoints" / "8")
    with pytest.raises(DamagedError, match="SHA-256"):
        read(tmp_path / "checkpoints")


def test_a_checkpoint_of_an_earlier_version_has_no_digest(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoints")
    changed_meta(
        tmp_path / "checkpoints", lambda meta: [meta.pop(k) for k in ("sha256", "environment")]
    )
    assert read(tmp_path / "checkpoints")[0] == 7


@pytest.mark.parametrize("what", ["save", "restore"])
def test_a_host_that_is_gone_is_no_damage(written, monkeypatch, what):
    def gone(*args, **options):
        raise jax.errors.JaxRuntimeError("Connection closed by peer")

    checkpoints = Checkpoints(written, keep=2)
    calls = {
        "save": lambda: checkpoints.save(9, state(), META),
        "restore": lambda: checkpoints.restore_newest(state(), lambda path, meta: None),
    }
    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: 2)
        patch.setattr(checkpoints._manager, what, gone)
        with pytest.raises(jax.errors.JaxRuntimeError):
            calls[what]()
    checkpoints.close()
    assert read(written)[2] == []


def test_the_digest_knows_values_types_and_shapes():
    one = state()
    others = [
        one._replace(step=jnp.asarray(8, jnp.int32)),
        jax.tree.map(lambda x: x[None], one),
        one._replace(batch_stats={"mean": one.batch_stats["mean"].astype(jnp.bfloat16)}),
    ]
    assert digest_of_arrays(jax.tree.map(np.asarray, one)) == digest_of_arrays(one)
    assert len({digest_of_arrays(other) for other in [one, *others]}) == 4


def test_a_refusal_is_no_damage(written):
    def refuse(path, meta):
        raise InputError("of other data")

    checkpoints = Checkpoints(written, keep=2)
    with pytest.raises(InputError, match="of other data") as caught:
        checkpoints.restore_newest(state(), refuse)
    checkpoints.close()
    assert not isinstance(caught.value, DamagedError)
    assert (written / "7").exists()
