"""The commands that make the stored results, as the READMEs show them."""

from experiments.additive import run as additive


def command(experiment: str, *, program: str = "run", out: bool = True, **options: str) -> str:
    """The command of an experiment, its results stored where the repository keeps them.

    >>> command("ablation", protocol="digits")
    'python -m experiments.ablation.run --protocol digits --out experiments/ablation/results'
    """
    words = [f"python -m experiments.{experiment}.{program}"]
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')} {value}".rstrip())  # a flag has no value
    if out:
        words.append(f"--out experiments/{experiment}/results")
    return " ".join(words)


def with_protocol(experiment: str, protocol: str, **options: str) -> str:
    """The command of an experiment on accuracy for one protocol.

    >>> with_protocol("baseline", "baseline_cifar10")  # doctest: +NORMALIZE_WHITESPACE
    'python -m experiments.baseline.run --protocol baseline_cifar10 --data-dir TFDS_DIR
     --out experiments/baseline/results'
    """
    if "cifar" in protocol:
        options = {"data_dir": "TFDS_DIR", **options}
    return command(experiment, program="run", out=True, protocol=protocol, **options)


# The keys that the sensitivity has on CIFAR-10-LT.
CIFAR_KEYS = ",".join(
    (
        *("plan.balance", "loss.embedded_weight", "plan.fraction", "plan.num_blocks"),
        *("plan.every", "loss.tau", "loss.prior", "whitening.momentum", "whitening.groups"),
    )
)
# The parts of the additive table that are run with the network of `*_medium`.
ADDED = " ".join(f'"{part}"' for part in (additive.DECAY, additive.TWO, additive.THREE))
# The rows of the field's protocol: those with several seeds, and all.
FIELD_REPEATED = "ce,logit_adjustment,bn_la,cw_la,cw_la_b3rs_bet,crt,posthoc_la"
FIELD_ROWS = f"{FIELD_REPEATED},balanced_softmax,ldam_drw,cw,cw_crt,cw_posthoc_la"
# Other settings that are tried at its full length.
FIELD_RIDGES = '"cw_la whitening.shrinkage=0.1,cw_la whitening.shrinkage=0.9"'
FIELD_PRIOR = '"cw_la_b3rs_bet loss.prior=data"'
# The runs of it that there are: the data set, rows, and their number of seeds.
FIELD_RUNS = (
    ("cifar10", FIELD_ROWS, "1"),
    ("cifar10", FIELD_REPEATED, "3"),
    ("cifar10", FIELD_RIDGES, "1"),
    ("cifar10", FIELD_PRIOR, "2"),
    ("cifar100", FIELD_ROWS, "1"),
)
# What makes the results of each experiment, by the name of its folder.
COMMANDS: dict[str, tuple[str, ...]] = {
    "ablation": (
        *(
            with_protocol("ablation", name)
            for name in ("digits", "mnist_100", "cifar10_small", "cifar100_small")
        ),
        *(
            with_protocol("ablation", name, rows=rows, seeds=seeds)
            for name, rows, seeds in FIELD_RUNS
        ),
    ),
    "baseline": (
        with_protocol("baseline", "baseline_cifar10"),
        with_protocol("baseline", "baseline_digits", seeds="6"),
    ),
    "choice": (
        with_protocol("choice", "choice_digits", seeds="10"),
        with_protocol("choice", "choice_cifar10", seeds="10"),
        with_protocol("choice", "choice_cifar100"),
    ),
    "additive": (
        *(
            with_protocol("additive", name, seeds="3", starts="cw_la", parts=ADDED)
            for name in ("cifar10_medium", "cifar100_medium")
        ),
        with_protocol("additive", "cifar10_small_bfloat16"),
        with_protocol("additive", "cifar100_small_bfloat16"),
    ),
    "sensitivity": (
        with_protocol("sensitivity", "digits_20"),
        with_protocol("sensitivity", "cifar10_small", seeds="3", keys=CIFAR_KEYS),
    ),
    "mechanism": (command("mechanism"),),
    "crash": (command("crash"), command("crash", program="faults")),
    "train_speed": (
        command("train_speed"),
        command("train_speed", parts="steps", cores="2"),
        command("train_speed", parts="steps", work="training", bfloat16=""),
    ),
    "kernel_accuracy": (command("kernel_accuracy", data_dir="TFDS_DIR"),),
    "whitening_speed": (
        command("whitening_speed", cores="2"),
        command("whitening_speed", program="step"),
    ),
    "sampler_speed": (command("sampler_speed"), command("sampler_speed", program="covariance")),
    "input_speed": tuple(command("input_speed", part=part) for part in ("streamed", "resident")),
    "predict_speed": (command("predict_speed"),),
    "finetune_cost": (command("finetune_cost", rounds="5"),),
}
