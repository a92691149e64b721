"""Class-weighted classifiers of scikit-learn on pixels, for scale."""

import time
from typing import Any

import ml_collections

from experiments.features import images_of
from ltjax import config as configs
from ltjax.data.load import load_splits
from ltjax.evaluation.metrics import summarize


def classical(name: str, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Scores of logistic regression or an RBF SVM on the data of a run, pixels from 0 to 1.

    Standardizing the pixels instead is worse by 1 to 3 points (digits, seeds 100 to 104).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    train, test, *_ = load_splits(configs.resolve(config).data)
    model = (
        LogisticRegression(class_weight="balanced", max_iter=5000)
        if name == "logistic_regression"
        else SVC(class_weight="balanced")
    )
    started = time.perf_counter()
    model.fit(images_of(train).reshape(len(train), -1) / 255, train.labels)
    seconds = time.perf_counter() - started
    predictions = model.predict(images_of(test).reshape(len(test), -1) / 255)
    return {**summarize(test.labels, predictions, train.class_counts), "seconds": seconds}
