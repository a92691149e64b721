"""The digits at imbalance factor 20: scikit-learn, plain cross entropy and the methods.

    python -m experiments.digits.run [--seeds 0 1 2 3 4] [--rows ce cw_la_b3rs_bet ...]
                                     [--set KEY=VALUE ...] [--out experiments/digits/results]

Every row sees the same splits: the split follows the seed. Writes one JSON file and prints
the table of README.md.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import ast
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from ltjax import config as configs
from ltjax.data.sources import Splits
from ltjax.data.splits import load_splits
from ltjax.evaluation.metrics import summarize
from ltjax.training.job import SPLIT_KEYS, versions
from ltjax.training.loop import run
from ltjax.training.watch import SilentWatcher

COLUMNS = ("accuracy", "balanced_accuracy", "many", "medium", "few")
SKLEARN = ("logistic_regression", "rbf_svm")
ABLATION = ("ce", "logit_adjustment", "cw", "cw_la", "cw_la_b3rs", "cw_la_b3rs_bet")


def make_config(method: str, seed: int, overrides: dict):
    """The configuration of one run."""
    config = configs.default()
    config.method, config.seed = method, seed
    for path, value in overrides.items():
        configs.put(config, path, value)
    return config


def splits_of(config) -> Splits:
    """The data of a run."""
    data = configs.resolve(config).data
    return load_splits(**{key: data[key] for key in SPLIT_KEYS})


def sklearn_row(name: str, seed: int, overrides: dict) -> dict:
    """Class-weighted logistic regression or RBF SVM on pixels from 0 to 1.

    Standardising the pixels instead is worse by 1 to 3 points (seeds 100 to 104).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    train, test = splits_of(make_config("ce", seed, overrides))
    model = (
        LogisticRegression(class_weight="balanced", max_iter=5000)
        if name == "logistic_regression"
        else SVC(class_weight="balanced")
    )
    started = time.perf_counter()
    model.fit(train.images.reshape(len(train), -1) / 255, train.labels)
    seconds = time.perf_counter() - started
    predictions = model.predict(test.images.reshape(len(test), -1) / 255)
    return {**summarize(test.labels, predictions, train.class_counts), "seconds": seconds}


def method_row(method: str, seed: int, overrides: dict) -> dict:
    """One training run in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(method, seed, overrides)
        result = run(config, folder, watcher=SilentWatcher()).result
    return {**result["test"], "seconds": result["train"]["seconds"]}


def table(rows: dict[str, list[dict]]) -> str:
    """Mean ± sample standard deviation over the seeds, as Markdown."""
    lines = [
        "| method | " + " | ".join(c.replace("_accuracy", "") for c in COLUMNS) + " | seconds |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, results in rows.items():
        cells = []
        for column in COLUMNS:
            values = [r[column] for r in results if r[column] is not None]
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{np.mean(values):.4f} ± {spread:.4f}" if values else "–")
        seconds = np.median([r["seconds"] for r in results])
        lines.append(f"| `{name}` | {' | '.join(cells)} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", nargs="+", default=[*SKLEARN, *ABLATION])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    overrides = {}
    for item in args.set:
        key, text = item.split("=", 1)
        overrides[key] = (
            text if isinstance(configs.SCHEMA[key].default, str) else (ast.literal_eval(text))
        )
    devices = configs.get(make_config("ce", 0, overrides), "cpu_devices")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_compilation_cache_dir", str(Path(tempfile.gettempdir()) / "ltjax-xla"))
    rows: dict[str, list[dict]] = {}
    for name in args.rows:
        make = sklearn_row if name in SKLEARN else method_row
        for seed in args.seeds:
            rows.setdefault(name, []).append(make(name, seed, overrides))
        print(table({name: rows[name]}).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        content = {
            "command": "python -m experiments.digits.run --out experiments/digits/results",
            "seeds": args.seeds,
            "overrides": overrides,
            "versions": versions(jax.local_devices(), jax.local_device_count()),
            "rows": rows,
        }
        (args.out / "digits.json").write_text(json.dumps(content, indent=1) + "\n")
        (args.out / "table.md").write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
