"""The parts of the method, one by one, beside the losses and decoupled methods of the field.

    python -m experiments.ablation.run --protocol digits [--seeds 20] [--rows ce,cw_la,...]
                                       [--out experiments/ablation/results]

`digits` is the three protocols digits_10, digits_20 and digits_50; `--rows losses` is the further
losses, and "cw_la whitening.shrinkage=0.1" a row with another setting. With --out every finished
run is stored there and not run again. Where stored results exist, the table says whether these
agree.
"""

import argparse
from pathlib import Path

from experiments.ablation.field import CURVES, FIELD, PUBLISHED, figure, measures
from experiments.protocols import CLASSICAL, LOSSES, MAIN, PROTOCOLS, ROWS, Trial, stage_one
from experiments.results import Results, of_store, pooled, results
from experiments.store import Rows, read, read_curves
from experiments.tables import (
    Cell,
    accuracy_table,
    compare,
    percent,
    rarest,
    render,
    texts,
    values,
)
from experiments.trials import Extras, run_and_store, standard_arguments

STORED = Path(__file__).parent / "results"
SHORT = {
    "digits_10": "digits, IF 10",
    "digits_20": "digits, IF 20",
    "digits_50": "digits, IF 50",
    "mnist_100": "MNIST, IF 100",
    "cifar10_small": "CIFAR-10-LT, small network",
    "cifar100_small": "CIFAR-100-LT, small network",
    "cifar10_small_subsets": "CIFAR-10-LT, small network, own subsets",
    "cifar100_small_subsets": "CIFAR-100-LT, small network, own subsets",
    "cifar10": "CIFAR-10-LT",
    "cifar100": "CIFAR-100-LT",
    "finetuned_cifar100": "CIFAR-100-LT, pretrained network",
}
REFERENCES = ("ce", "logit_adjustment", "bn_la")
GROUPS = {"digits": ("digits_10", "digits_20", "digits_50")}


def published_table() -> str:
    """The published values of all methods, whether they are rows here or not."""
    lines: list[list[Cell]] = [
        [f"`{name}`" if name in ROWS else name, *(of[name] for of in PUBLISHED.values())]
        for name in PUBLISHED["cifar10"]
    ]
    return render(["method", *(SHORT[name] for name in PUBLISHED)], lines)


def table(protocol: str, found: Results) -> str:
    """The main rows of a protocol."""
    recipe = PROTOCOLS[protocol].config.removeprefix("configs.").removesuffix("_lt")
    published = PUBLISHED.get(recipe, {})
    return accuracy_table(found, in_order(protocol, found), REFERENCES, published=published)


def in_order(protocol: str, found: Results) -> list[str]:
    """The rows of a table; of the field's protocol also settings tried at its full length."""
    tried = [name for name in found.rows if name not in ROWS] if protocol in FIELD else []
    return [*CLASSICAL, *MAIN, *tried]


def losses_table(found: Results) -> str:
    """Second stages and losses on the plain network, against plain cross entropy."""
    plain = [name for name in MAIN if stage_one(name) == "ce"]
    plain += ["logit_adjustment", "balanced_softmax", "ldam_drw", *LOSSES]
    return accuracy_table(found, ["ce", *plain, "cw", "cw_la"], ("ce",))


def summary(stores: dict[str, Rows]) -> str:
    """Top-1 in percent of every main row, a column for every protocol."""
    protocols = [name for name in SHORT if name in stores]
    lines = ["| row | " + " | ".join(SHORT[name] for name in protocols) + " |"]
    lines.append("|---" * (len(protocols) + 1) + "|")
    rows = [stores[name] for name in protocols]
    shown = [name for name in (*CLASSICAL, *MAIN) if any(name in found for found in rows)]
    for name in shown:
        cells = [percent(values(found, name)) if name in found else "–" for found in rows]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    counts = [sorted({len(found[name]) for name in shown if name in found}) for found in rows]
    cells = [f"{c[0]} to {c[-1]}" if len(c) > 1 else str(c[0]) for c in counts]
    return "\n".join([*lines, "| seeds | " + " | ".join(cells) + " |"]) + "\n"


def stored(folder: Path) -> dict[str, Rows]:
    """The stored results of a folder, by protocol."""
    files = {name: folder / f"{name}.csv" for name in SHORT}
    return {name: pooled(path).rows for name, path in files.items() if path.exists()}


def tables(path: Path) -> dict[str, str]:
    """The tables that are made from a file of results, by file name."""
    found = pooled(path)
    made = {f"{path.stem}.md": table(path.stem, found)}
    if text := claims(found):
        made[f"{path.stem}_parts.md"] = text
    if path.stem in FIELD:
        made[f"{path.stem}_measures.md"] = measures(found.rows, in_order(path.stem, found))
    if any(name in found.rows for name in LOSSES):
        made[f"{path.stem}_losses.md"] = losses_table(found)
    if text := replication(path):
        made[f"{path.stem}_replication.md"] = text
    return made


def write(path: Path) -> None:
    """The tables of a protocol, and the summary of all that are stored in the folder."""
    for name, text in tables(path).items():
        (path.parent / name).write_text(text)
    if path.stem in FIELD:
        figure(results(path), read_curves(path), path.with_suffix(".png"))
    (path.parent / "summary.md").write_text(summary(stored(path.parent)))
    (path.parent / "published.md").write_text(published_table())


def rows_of(protocol: str, text: str) -> list[str]:
    """The rows that `--rows` names; those of scikit-learn are for the digits."""
    if text == "losses":
        return ["ce", *LOSSES]
    if text != "main":
        return text.split(",")
    return [*(CLASSICAL if protocol.startswith("digits") else ()), *MAIN]


# Each part of the method: the row with it, and the row without.
CLAIMS = {
    "whitening, plain loss": ("cw", "ce"),
    "whitening, logit-adjusted loss": ("cw_la", "logit_adjustment"),
    "whitening instead of BatchNorm, plain loss": ("cw", "bn"),
    "whitening instead of BatchNorm, logit-adjusted loss": ("cw_la", "bn_la"),
    "BatchNorm with a slower classifier instead of BatchNorm": ("bn_la_slow", "bn_la"),
    "whitening instead of BatchNorm with a slower classifier": ("cw_la", "bn_la_slow"),
    "logit adjustment on whitening": ("cw_la", "cw"),
    "B3RS alone": ("ce_b3rs", "ce"),
    "B3RS and BET alone": ("ce_b3rs_bet", "ce"),
    "B3RS on whitening": ("cw_b3rs", "cw"),
    "B3RS and BET on whitening": ("cw_b3rs_bet", "cw"),
    "B3RS on whitening and logit adjustment": ("cw_la_b3rs", "cw_la"),
    "B3RS and BET on whitening and logit adjustment": ("cw_la_b3rs_bet", "cw_la"),
    "B3RS with the prior of its batches instead of the data's": (
        "cw_la_b3rs",
        "cw_la_b3rs loss.prior=data",
    ),
    "B3RS and BET with the prior of their batches instead of the data's": (
        "cw_la_b3rs_bet",
        "cw_la_b3rs_bet loss.prior=data",
    ),
    "the whole method instead of cRT": ("cw_la_b3rs_bet", "crt"),
    "the whole method instead of post-hoc LA": ("cw_la_b3rs_bet", "posthoc_la"),
    "the whole method instead of cRT on whitening": ("cw_la_b3rs_bet", "cw_crt"),
    "the whole method instead of post-hoc LA on whitening": ("cw_la_b3rs_bet", "cw_posthoc_la"),
    "the whole method instead of LDAM-DRW": ("cw_la_b3rs_bet", "ldam_drw"),
}


def claims(found: Results) -> str:
    """What each part adds to top-1 and to the rare classes, as Markdown.

    Empty where no two rows have two seeds in common.
    """
    lines: list[list[Cell]] = [
        [words, f"`{name}` − `{reference}`", *cells]
        for words, (name, reference), cells in _claimed(found)
    ]
    return render(["part", "rows", "top-1", rarest(found.rows)], lines) if lines else ""


def gains(found: Results) -> dict[tuple[str, str], tuple[str, str]]:
    """What each part adds to top-1 and to the rarest group, as `claims` shows it, by its rows."""
    claimed = _claimed(found)
    shown = texts([cells for _, _, cells in claimed])
    return {pair: (top, rare) for (_, pair, _), (top, rare) in zip(claimed, shown, strict=True)}


def _claimed(found: Results) -> list[tuple[str, tuple[str, str], list[Cell]]]:
    """Words, rows, and differences in top-1 and in the rarest group, of the parts there are."""
    column = rarest(found.rows)
    return [
        (words, pair, [top, compare(found, *pair, column)])
        for words, pair in CLAIMS.items()
        if (top := compare(found, *pair)) is not None
    ]


def replication(path: Path) -> str:
    """Each part's gain in top-1 in the ablation's own runs, in other experiments', and in all.

    Empty where no other experiment has runs of other seeds in the same settings.
    """
    own, every = results(path), pooled(path)
    others = Results(
        {
            row: {seed: run for seed, run in seeds.items() if seed not in own.rows.get(row, {})}
            for row, seeds in every.rows.items()
        },
        every.design,
    )
    lines: list[list[Cell]] = []
    for words, pair in CLAIMS.items():
        counts = [len(others.rows.get(row, {})) for row in pair]
        if min(counts) > 1:
            cells: list[Cell] = [words, f"`{pair[0]}` − `{pair[1]}`"]
            for part in (own, others, every):
                cells += [compare(part, *pair), _seeds(part, pair)]
            lines.append(cells)
    heads = ["part", "rows", "here", "seeds", "other experiments", "seeds", "all", "seeds"]
    return render(heads, lines) if lines else ""


def _seeds(found: Results, pair: tuple[str, str]) -> str:
    return " and ".join(str(n) for n in dict.fromkeys(len(found.rows[row]) for row in pair))


def agreement(rows: Rows, stored: Rows) -> str:
    """Whether rows run now agree with the stored ones, as text.

    Two means agree where their difference lies within the 95% prediction interval for so few
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
    parser.add_argument("--seeds", type=int, default=None, help="number; 20 of digits, else 5")
    parser.add_argument("--rows", default="main", help="main, losses, or names with commas")
    standard_arguments(parser)
    args = parser.parse_args()
    named = rows_of(args.protocol, args.rows)
    if unknown := [name for name in named if name.split(" ")[0] not in ROWS]:
        parser.error(f"--rows {','.join(unknown)}: allowed are main, losses, {', '.join(ROWS)}")
    for protocol in GROUPS.get(args.protocol, (args.protocol,)):
        names = rows_of(protocol, args.rows)
        count = args.seeds or (20 if protocol.startswith("digits") else 5)
        # Row by row for every seed, so that what there is at any time compares.
        trials = [Trial(name, seed) for seed in range(count) for name in names]
        extras = Extras(curve=CURVES) if protocol in FIELD else None
        store = run_and_store(protocol, trials, args, parser, extras)
        found = pooled(store.path) if store.path else of_store(store)
        print(f"\n{PROTOCOLS[protocol].words}\n\n{table(protocol, found)}\n{claims(found)}")
        if store.path:
            write(store.path)
        else:
            print(agreement(store.rows, read(STORED / f"{protocol}.csv")) + "\n")


if __name__ == "__main__":
    main()
