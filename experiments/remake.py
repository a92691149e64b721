"""Makes the tables and figures on accuracy and on the speed of training again, from stored results.

    python -m experiments.remake

Nothing is trained. Tables are copied into the documents that show them (`experiments.documents`).
"""

from experiments import documents, records
from experiments.ablation import figure
from experiments.ablation import run as ablation
from experiments.additive import run as additive
from experiments.baseline import run as baseline
from experiments.choice import run as choice
from experiments.embeddings import accuracy as embeddings
from experiments.embeddings import speed as embeddings_speed
from experiments.finetune_cost import run as finetune_cost
from experiments.kernel_accuracy import run as kernel_accuracy
from experiments.mechanism import run as mechanism
from experiments.results import files
from experiments.seed_effect import run as seed_effect
from experiments.sensitivity import run as sensitivity
from experiments.train_speed import run as train_speed


def main() -> None:
    """Writes tables, figures and documents."""
    folders = records.ROOT / "experiments"
    for path in files(folders / "ablation" / "results"):
        ablation.write(path)
    figure.main()
    for path in files(folders / "sensitivity" / "results"):
        sensitivity.write(path)
    additive.write(folders / "additive" / "results")
    baseline.write(folders / "baseline" / "results")
    choice.write(folders / "choice" / "results")
    kernel_accuracy.write(folders / "kernel_accuracy" / "results")
    mechanism.write(folders / "mechanism" / "results")
    seed_effect.write()
    for name in ("cpu", "bfloat16"):
        train_speed.write(folders / "train_speed" / "results", name)
    finetune_cost.write(folders / "finetune_cost" / "results")
    for name in embeddings.NAMES:
        embeddings.write_tables(embeddings.RESULTS / f"{name}.csv")
    embeddings_speed.write(folders / "embeddings" / "results")
    documents.fill()


if __name__ == "__main__":
    main()
