"""Commands and manifests for clouds and clusters: their fields, flags and extras exist."""

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ltjax.config.command_line import parse_flags, read_config_file
from ltjax.main import _define_flags

# Of ml_collections.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
ROOT = Path(__file__).parents[2]
PLACES = ROOT / "docs" / "cluster"


def manifest(name):
    return yaml.safe_load((PLACES / name).read_text())


def pod_of(job):
    """The pod of a batch/v1 Job's specification, with what a run needs of it."""
    assert isinstance(job["backoffLimit"], int)
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # the Job starts a new pod
    assert pod["terminationGracePeriodSeconds"] >= 60  # for a checkpoint
    (container,) = pod["containers"]
    assert container["name"]
    assert container["image"] == "IMAGE"
    mounted = {one["name"] for one in container.get("volumeMounts", ())}
    assert mounted == {one["name"] for one in pod.get("volumes", ())}
    return pod, container


def given(command):
    """The flags of a command, parsed as the program does."""
    flags = _define_flags()
    program, *rest = command
    assert program == "ltjax"
    assert parse_flags(flags, ["ltjax", *rest], known_only=True) == ["ltjax"]
    read_config_file(flags.config)
    return flags


def test_job():
    found = manifest("job.yaml")
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    assert re.fullmatch("[a-z0-9-]+", found["metadata"]["name"])
    _, container = pod_of(found["spec"])
    flags = given(container["command"])
    assert not flags.distributed
    assert flags.workdir.startswith("gs://")  # one host may work in a store
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    (rule,) = found["spec"]["podFailurePolicy"]["rules"]  # a pod that was stopped does not count
    assert rule["action"] == "Ignore"
    assert rule["onExitCodes"] == {"operator": "In", "values": [flags.stopped_code]}
    assert flags.stopped_code > 2


def test_jobset():
    found = manifest("jobset.yaml")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = found["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    (one,) = spec["replicatedJobs"]
    job = one["template"]["spec"]
    assert one["replicas"] == 1
    pod, container = pod_of(job)
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == rows * columns // chips == 8
    flags = given(container["command"])
    assert flags.distributed
    assert flags.stopped_code > 0  # else the set would count as completed
    assert flags.workdir.startswith(container["volumeMounts"][0]["mountPath"] + "/")


def test_slurm():
    text = (PLACES / "slurm.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, re.M))
    assert (asked["nodes"], asked["gpus-per-node"], asked["ntasks-per-node"]) == ("2", "8", "1")
    assert asked["signal"].startswith("TERM@")
    command = shlex.split(text.split("srun --kill-on-bad-exit=1 ")[1].replace("\\\n", ""))
    assert given(command).distributed


@pytest.mark.parametrize("several", [False, True])
def test_commands_of_the_page(several):
    text = (ROOT / "docs" / "hosts.md").read_text().replace("\\\n", "")
    commands = [shlex.split(one) for one in re.findall(r"&&\s+(ltjax [^\"]*)\"", text)]
    assert len(commands) == 2
    flags = given(commands[several])
    assert bool(flags.distributed) == several
    assert flags.workdir.startswith("gs://") != several


def test_the_notebook_installs_jax_with_its_tpu_library():
    """The extra `tpu` asks for jax[tpu] by the same bound as the package, so pip moves both."""
    notebook = json.loads((ROOT / "experiments/notebooks/colab_tpu.ipynb").read_text())
    source = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    assert 'PACKAGE = "ltjax[tpu]"' in source
    installs = re.findall(r'"pip", "install", ([^\]]*)\]', source)
    assert installs == ['"-q", PACKAGE']
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = setup["options"]["install_requires"].split()
    (bound,) = [one.removeprefix("jax") for one in needed if re.match(r"jax\W", one)]
    assert setup["options.extras_require"]["tpu"].split() == ["ltjax[train]", f"jax[tpu]{bound}"]
    least = tuple(map(int, bound.removeprefix(">=").split(".")))
    pins = re.findall(r"^jax==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert pins
    assert all(tuple(map(int, pin.split(".")))[: len(least)] >= least for pin in pins)
    assert "v5e-1" in source
