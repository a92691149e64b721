"""The parts of the method, one by one, beside the losses and decoupled methods of the field.

    python -m experiments.ablation.run --protocol digits [--seeds 20] [--rows ce,cw_la,...]
                                       [--out experiments/ablation/results]

`digits` is the three protocols digits_10, digits_20 and digits_50. With --out every finished run is
stored there and not run again. Where stored results exist, the table says whether these agree.
"""

import argparse
import json
from pathlib import Path

from experiments.protocols import PROTOCOLS, ROWS
from experiments.tables import accuracy_table, paired, points
from experiments.trials import Store, Trial, run_trials, standard_arguments

STORED = Path(__file__).parent / "results"
COMMAND = "python -m experiments.ablation.run --protocol {} --out experiments/ablation/results"
REFERENCES = ("ce", "logit_adjustment", "bn_la")
GROUPS = {"digits": ("digits_10", "digits_20", "digits_50")}
# Top-1 with ResNet-32, 200 epochs, at imbalance factor 100.
PUBLISHED = {
    "cifar10": {
        "ce": "70.4 (Cao 2019)",
        "ldam_drw": "77.0 (Cao 2019)",
        "crt": "75.0",
        "tau_norm": "72.7",
        "balanced_softmax": "77.5",
        "logit_adjustment": "77.3 to 80.9 (Menon 2021)",
    },
    "cifar100": {
        "ce": "38.3 (Cao 2019)",
        "ldam_drw": "42.0 (Cao 2019)",
        "crt": "40.3",
        "tau_norm": "41.0",
        "balanced_softmax": "43.0",
        "logit_adjustment": "43.9 (Menon 2021)",
    },
}


def table(content: dict) -> str:
    """The table of a store."""
    config = content["protocol"]["overrides"].get("data.name", "")
    published = PUBLISHED.get(config.removesuffix("_lt"), {})
    return accuracy_table(content["rows"], list(ROWS), REFERENCES, published=published)


# Each part of the method: the row with it, and the row without.
CLAIMS = {
    "whitening, plain loss": ("cw", "ce"),
    "whitening, logit-adjusted loss": ("cw_la", "logit_adjustment"),
    "whitening instead of BatchNorm, plain loss": ("cw", "bn"),
    "whitening instead of BatchNorm, logit-adjusted loss": ("cw_la", "bn_la"),
    "logit adjustment on whitening": ("cw_la", "cw"),
    "B3RS alone": ("ce_b3rs", "ce"),
    "B3RS and BET alone": ("ce_b3rs_bet", "ce"),
    "B3RS on whitening": ("cw_b3rs", "cw"),
    "B3RS and BET on whitening": ("cw_b3rs_bet", "cw"),
    "B3RS on whitening and logit adjustment": ("cw_la_b3rs", "cw_la"),
    "B3RS and BET on whitening and logit adjustment": ("cw_la_b3rs_bet", "cw_la"),
    "the whole method instead of cRT": ("cw_la_b3rs_bet", "crt"),
    "the whole method instead of post-hoc LA": ("cw_la_b3rs_bet", "posthoc_la"),
    "the whole method instead of LDAM-DRW": ("cw_la_b3rs_bet", "ldam_drw"),
}


def claims(content: dict) -> str:
    """What each part brings to top-1 and to the rare classes, paired over seeds, as Markdown."""
    rows = content["rows"]
    lines = ["| part | rows | top-1 | few |", "|---|---|---|---|"]
    for words, (name, reference) in CLAIMS.items():
        found = [points(paired(rows, name, reference, column)) for column in ("accuracy", "few")]
        lines.append(f"| {words} | `{name}` − `{reference}` | {found[0]} | {found[1]} |")
    return "\n".join(lines) + "\n"


def agreement(rows: dict, stored: dict) -> str:
    """Whether rows run now lie where the stored ones do, as text.

    Two means agree where the stored mean lies within the interval of 95% of a run of so few
    seeds: `|difference| <= t s sqrt(1/n + 1/m)`, with the stored deviation `s`.
    """
    import numpy as np
    from scipy import stats

    lines = []
    for name in rows:
        if len(stored.get(name, {})) < 2:
            continue
        here = np.array([r["accuracy"] for r in rows[name].values()])
        there = np.array([r["accuracy"] for r in stored[name].values()])
        spread = there.std(ddof=1) * np.sqrt(1 / len(here) + 1 / len(there))
        width = stats.t.ppf(0.975, len(there) - 1) * spread
        gap = here.mean() - there.mean()
        words = "agrees with" if abs(gap) <= width else "DIFFERS FROM"
        lines.append(
            f"{name}: {here.mean():.4f} {words} the stored {there.mean():.4f} "
            f"(difference {gap:+.4f}, allowed {width:.4f})"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing; prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=[*GROUPS, *PROTOCOLS], default="digits")
    parser.add_argument("--seeds", type=int, default=None, help="number; 20 of digits, else 3")
    parser.add_argument("--rows", default=",".join(ROWS), help="names of rows, with commas")
    standard_arguments(parser)
    args = parser.parse_args()
    names = args.rows.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows {','.join(unknown)}: allowed are {', '.join(ROWS)}")
    for protocol in GROUPS.get(args.protocol, (args.protocol,)):
        count = args.seeds or (20 if protocol.startswith("digits") else 3)
        path = args.out / f"{protocol}.json" if args.out else None
        store = Store(path, PROTOCOLS[protocol], COMMAND.format(protocol))
        # Row by row for every seed, so that what there is at any time compares.
        trials = [Trial(name, seed) for seed in range(count) for name in names]
        run_trials(protocol, trials, store, processes=args.processes, data_dir=args.data_dir)
        made = table(store.content)
        print(f"\n{PROTOCOLS[protocol].words}\n\n{made}\n{claims(store.content)}")
        stored = STORED / f"{protocol}.json"
        if path is not None:
            path.with_suffix(".md").write_text(made)
            path.with_name(f"{protocol}_parts.md").write_text(claims(store.content))
        elif stored.exists():
            print(agreement(store.rows, json.loads(stored.read_text())["rows"]) + "\n")


if __name__ == "__main__":
    main()
