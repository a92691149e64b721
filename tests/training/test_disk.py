"""The command line on a disk that takes no more: one line, exit code 2, and no work lost."""

import gc
import resource

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

KEYS = ["--config.cpu_devices=1", "--config.method=ce", "--config.model.name=mlp"]
KEYS += ["--config.model.hidden=(256,)"]  # more than 8 KiB
KEYS += ["--config.train.epochs=2", "--config.optimizer.warmup_epochs=1"]
KEYS += ["--config.evaluation.every_epochs=2", "--config.checkpoint.every_epochs=1"]


@pytest.fixture
def no_longer_files(tmp_path):
    """A limit of 8 KiB on the size of files, as of `ulimit -f 8`."""
    shared = jax.config.jax_compilation_cache_dir
    keep_programs_in(tmp_path / "programs")  # cut ones must not lie where other tests read
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    keep_programs_in(shared)


def keep_programs_in(folder):
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache:UserWarning")
@pytest.mark.usefixtures("no_longer_files")
def test_a_file_that_may_not_grow_ends_a_run_with_one_line(tmp_path, command, capfd):
    code, text = command("--config=digits_lt", f"--workdir={tmp_path / 'run'}", *KEYS)
    gc.collect()  # what a failed write left to be closed speaks here
    said = (text + capfd.readouterr().err).splitlines()
    errors = [line for line in said if not line.startswith(("in ", "step "))]
    assert errors[0].startswith("training from step 0")
    (line,) = errors[1:]
    assert line.startswith("ltjax: error: a checkpoint in")
    assert line.endswith(
        "raise the limit on the size of files (ulimit -f), then give the same command to go on"
    )
    assert code == 2
