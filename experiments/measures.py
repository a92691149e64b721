"""Diagnostics of features and classifiers, as the tables and figures show them."""

import numpy as np

from experiments.store import Rows
from experiments.tables import values

# Name in the results, words, whether it is shown on a logarithmic scale.
MEASURES = {
    "before_whitening/mean_abs_correlation": ("mean correlation of the features", False),
    "before_whitening/effective_rank": ("effective rank of the features", False),
    "before_whitening/condition_number": ("condition number of their covariance", True),
    "after_whitening/mean_abs_correlation": ("mean correlation, classifier's input", False),
    "after_whitening/effective_rank": ("effective rank, classifier's input", False),
    "classifier/hessian_condition_number": ("condition number of the Hessian", True),
    "classifier/mean_abs_gradient_cosine": ("mean cosine of class gradients", False),
}


def flat(rows: Rows) -> Rows:
    """The accuracy and the measures of rows, those on a logarithmic scale as logarithms.

    A measure that a run does not have, as the Hessian's of a large classifier, is left out.
    """
    found: Rows = {}
    for name, seeds in rows.items():
        for seed, result in seeds.items():
            line = {"accuracy": result["accuracy"]}
            for measure, (_, logarithmic) in MEASURES.items():
                if measure in result:
                    value = result[measure]
                    line[measure] = float(np.log10(value)) if logarithmic else value
            found.setdefault(name, {})[seed] = line
    return found


def is_shown(rows: Rows, name: str, measure: str) -> bool:
    """Whether a measure of the classifier's input is another number than that of the features.

    It is the same where there is no layer between them, and so are correlations where each channel
    is divided by its deviation; a table that counted them twice would test them twice.
    """
    before = measure.replace("after_whitening/", "before_whitening/")
    if before == measure:
        return True
    return not np.allclose(values(rows, name, measure), values(rows, name, before), rtol=1e-4)


def text_of(value: float, measure: str) -> str:
    """A value of `flat` as text."""
    return f"{10**value:.3g}" if MEASURES[measure][1] else f"{value:.3g}"
