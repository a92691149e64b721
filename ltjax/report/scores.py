"""The scores that a report shows: their names, in one table, and how their values are written."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ltjax.evaluation.target import SHOWN
from ltjax.report.record import RunRecord


class Score(NamedTuple):
    """A score of the test images.

    Attributes:
      key: its key in `result.json`.
      name: its name in plain English.
      headline: its short name where the report's first table has it.
      percent: whether it is a share, written in percent.
      lower_is_better: which direction is better.
    """

    key: str
    name: str
    headline: str = ""
    percent: bool = True
    lower_is_better: bool = False

    def shown(self, value: float | None) -> str:
        """A value as a report writes it.

        Args:
          value: of the score; None where it is not defined.

        Returns:
          Text, in percent where `percent` says so.

        >>> SCORES[0].shown(0.0123), SCORES[0].shown(None)
        ('1.2%', '–')
        """
        if value is None:
            return "–"
        return f"{100 * value:.1f}%" if self.percent else f"{value:.3f}"

    def of(self, run: RunRecord) -> str:
        """Its value in a run, with the standard deviation over seeds where there are several.

        Args:
          run: a finished run.

        Returns:
          Text.
        """
        value, std = run.test.get(self.key), run.test_std.get(self.key)
        if value is None or std is None:
            return self.shown(value)
        return f"{self.shown(value)} ± {self.shown(std)}"

    def best(self, runs: Sequence[RunRecord]) -> float | None:
        """Its best value among runs.

        Args:
          runs: finished runs.

        Returns:
          The value; None where no run has the score.
        """
        known = [value for run in runs if (value := run.test.get(self.key)) is not None]
        choose: Callable[[list[float]], float] = min if self.lower_is_better else max
        return choose(known) if known else None

    def interval(self, run: RunRecord) -> str:
        """Its 95% interval in a run.

        Args:
          run: a finished run.

        Returns:
          Text such as `80.1% to 84.3%`.
        """
        span = run.intervals.get(self.key)
        return "–" if span is None else f"{self.shown(span[0])} to {self.shown(span[1])}"


SCORES = (
    Score("accuracy", "top-1 accuracy", "top-1"),
    Score("top5", "top-5 accuracy"),
    Score("balanced_accuracy", "balanced accuracy", "balanced"),
    Score("many", "many-shot accuracy", "many"),
    Score("medium", "medium-shot accuracy", "medium"),
    Score("few", "few-shot accuracy", "few"),
    Score("worst_class", "worst-class accuracy"),
    Score("harmonic_mean", "harmonic mean of class accuracies"),
    Score("geometric_mean", "geometric mean of class accuracies"),
    Score("macro_f1", "macro F1"),
    Score("head_to_tail", "tail-to-head confusion", lower_is_better=True),
    Score("nll", "negative log-likelihood", percent=False, lower_is_better=True),
    Score("ece", "ECE (15 bins)", lower_is_better=True),
    Score("classwise_ece", "class-wise ECE (15 bins)", lower_is_better=True),
)
# Class distributions, in words.
PRIORS = {"uniform": "equal", "train": "as in training"}
HEADLINES = tuple(score for score in SCORES if score.headline)


def score_table(run: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Every score of a run as text, for a page or a card.

    Args:
      run: a finished run.

    Returns:
      The header and the rows: name, value, 95% interval, and the value after each post-hoc
      correction. The interval and the corrected values are those of the first seed.
    """
    first = f", seed {run.seeds[0]}" if len(run.seeds) > 1 else ""
    header = ["score", "mean ± std over seeds" if first else "test", f"95% interval{first}"]
    header += [f"after {name.replace('_', ' ')}{first}" for name in run.post_hoc]
    rows = [
        [
            score.name,
            score.of(run),
            score.interval(run),
            *(score.shown(corrected.get(score.key)) for corrected in run.post_hoc.values()),
        ]
        for score in SCORES
        if score.key in run.test
    ]
    return header, rows


def prior_table(run: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Scores of the first seed under other class distributions as text.

    Args:
      run: a finished run.

    Returns:
      The header and the rows; no rows where the run is older than these scores.
    """
    shown = [score for score in SCORES if score.key in SHOWN]
    header = ["shares of the classes", "predictions", *(score.name for score in shown)]
    rows = [
        [PRIORS.get(name, name), how.replace("_", " "), *(s.shown(of.get(s.key)) for s in shown)]
        for name, each in run.target_prior.items()
        for how, of in each.items()
    ]
    return header, rows
