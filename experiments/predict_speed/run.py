"""Prediction of a folder of JPEGs against the streamed evaluation of the same files.

    python -m experiments.predict_speed.run [--rounds 7] [--out experiments/predict_speed/results]

Both decode the same 2,000 JPEGs by two threads, compile and run the same trained network; they
take turns in one process. The peak memory of a process that predicts 500 files is compared with
that of one that predicts 2,000.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import jax
import numpy as np

from ltjax import config as configs
from ltjax.data.folder import read_folder
from ltjax.data.loader import StreamSettings, eval_batches
from ltjax.serving import load as trained
from ltjax.serving import predict
from ltjax.training.loop import run, versions
from ltjax.training.progress import SilentWatcher

SIZE, COUNT = 64, 2000


def write_pictures(root: Path) -> None:
    """500 x 375 JPEGs of four classes."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        folder = root / f"class{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        scene = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(scene, (500, 375), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:04}.jpg"), picture)


def train(pictures: Path, workdir: Path) -> None:
    """A network of the folder config's size, hardly trained."""
    config = configs.default()
    config.method, config.model.name = "cw_la", "resnet10"
    config.data.name, config.data.dir, config.data.image_size = "folder", str(pictures), SIZE
    config.data.profile, config.data.test_per_class, config.data.limit = "as_is", 5, 128
    config.train.epochs, config.optimizer.warmup_epochs = 1, 0
    config.evaluation.batch_size = 128
    run(config, workdir, watcher=SilentWatcher())


def memory(workdir: Path, pictures: Path) -> float:
    """Peak of a process that predicts, in MiB."""
    code = (
        "import resource, sys; from ltjax.serving import predict, trained; "
        "predict.predict(trained.load(sys.argv[1]), sys.argv[2], sys.argv[3], threads=2); "
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, str(workdir), str(pictures), str(workdir / "m.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"peak ([0-9.]+)", done.stdout)
    assert found is not None
    return float(found[1])


def measure(rounds: int) -> dict:
    """Images a second of both, ratios, and memory."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pictures(root / "all")
        few = root / "few" / "class0"
        few.mkdir(parents=True)
        for file in sorted((root / "all").rglob("*.jpg"))[:500]:
            (few / file.name).symlink_to(file)
        train(root / "all", root / "run")
        network = trained.load(root / "run")
        source = read_folder(str(root / "all"), size=SIZE)

        def evaluation() -> None:
            logits = jax.jit(trained.folded_function(network)[0])
            settings = StreamSettings(threads=2)
            for batch in eval_batches(source.labels, 128, source, settings):
                np.asarray(logits(batch.images))

        def prediction() -> None:
            predict.predict(network, root / "all", root / "out.csv", threads=2)

        contenders = {"streamed evaluation": evaluation, "predict": prediction}
        seconds: dict[str, list[float]] = {key: [] for key in contenders}
        for number in range(rounds + 1):
            for key, contender in contenders.items():
                started = time.perf_counter()
                contender()
                if number:  # the first round compiles
                    seconds[key].append(time.perf_counter() - started)
        ratios = [
            a / b for a, b in zip(seconds["streamed evaluation"], seconds["predict"], strict=True)
        ]
        return {
            "images_per_second": {k: COUNT / statistics.median(v) for k, v in seconds.items()},
            "predict_of_evaluation": statistics.median(ratios),
            "peak_mebibytes": {
                "500": memory(root / "run", root / "few"),
                "2000": memory(root / "run", root / "all"),
            },
        }


def table(found: dict) -> str:
    """The figures as Markdown."""
    rates, peak = found["images_per_second"], found["peak_mebibytes"]
    return (
        "| | images/s | of evaluation |\n|---|---|---|\n"
        f"| streamed evaluation | {rates['streamed evaluation']:,.0f} | 1 |\n"
        f"| predict | {rates['predict']:,.0f} | {found['predict_of_evaluation']:.3f} |\n\n"
        "| files | peak memory of predict, MiB |\n|---|---|\n"
        f"| 500 | {peak['500']:,.0f} |\n| 2000 | {peak['2000']:,.0f} |\n"
    )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    found = measure(args.rounds)
    print(table(found))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        command = "python -m experiments.predict_speed.run --out experiments/predict_speed/results"
        content = {"command": command, "versions": versions(jax.devices(), 1), **found}
        (args.out / "predict.json").write_text(json.dumps(content, indent=1) + "\n")
        (args.out / "predict.md").write_text(table(found))


if __name__ == "__main__":
    main()
