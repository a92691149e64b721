"""Prediction of a folder of JPEGs against the streamed evaluation of the same files.

    python -m experiments.predict_speed.run [--rounds 7] [--out experiments/predict_speed/results]

Both decode the same 2,000 JPEGs by two threads, compile and run the same trained network; they
take turns in one process. The peak memory of a process that predicts 500 files is compared with
that of one that predicts 2,000.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import tempfile
from pathlib import Path

import cv2
import jax
import numpy as np

from experiments import records
from ltjax import config as configs
from ltjax.data.folder import read_folder
from ltjax.data.loader import StreamSettings, eval_batches
from ltjax.serving import load as trained
from ltjax.serving import predict
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run

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


PREDICT = """
import sys
from ltjax.serving import load, predict
predict.predict(load.load(sys.argv[1]), sys.argv[2], sys.argv[3], threads=2)
"""


def memory(workdir: Path, pictures: Path) -> float:
    """Peak of a process that predicts, in MiB."""
    return timing.peak_mebibytes(PREDICT, str(workdir), str(pictures), str(workdir / "m.csv"))


def measure(rounds: int) -> timing.Parts:
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
        times = timing.interleaved(contenders, rounds)
        speed = {
            name: {
                "images_per_second": COUNT / found.median,
                "ratio": found.times_faster(times["streamed evaluation"]),
                "rounds": rounds,
            }
            for name, found in times.items()
        }
        peaks = {"500": memory(root / "run", root / "few")}
        peaks["2000"] = memory(root / "run", root / "all")
    return {"speed": speed, "memory": {n: {"peak_mebibytes": peak} for n, peak in peaks.items()}}


def table(parts: timing.Parts) -> str:
    """The numbers as Markdown."""
    evaluation, predicted = (parts["speed"][n] for n in ("streamed evaluation", "predict"))
    few, many = (parts["memory"][n]["peak_mebibytes"] for n in ("500", "2000"))
    return (
        "| | images/s | of evaluation |\n|---|---|---|\n"
        f"| streamed evaluation | {evaluation['images_per_second']:,.0f} | 1 |\n"
        f"| predict | {predicted['images_per_second']:,.0f} | {predicted['ratio']:.3f} |\n\n"
        "| files | peak memory of predict, MiB |\n|---|---|\n"
        f"| 500 | {few:,.0f} |\n| 2000 | {many:,.0f} |\n"
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
        about = records.environment(records.devices())
        timing.write(args.out / "predict.csv", found, about)
        (args.out / "predict.md").write_text(table(found))


if __name__ == "__main__":
    main()
