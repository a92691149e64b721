"""`LongTailClassifier` as scikit-learn and its users see it."""

import pickle
import re
import tracemalloc
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from ltjax import LongTailClassifier
from ltjax.errors import InputError
from ltjax.training import choice

# What scikit-learn declares for its own SGDClassifier.
OF_SGD = dict.fromkeys(
    [
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ],
    "sample_weight is not equivalent to removing/repeating samples.",
)
SIZE = 5  # features; one number, so that few programs are compiled


def draw(counts, seed=0, dtype=np.float32):
    """Rows of classes that overlap, shuffled; class by class with a spread of its own."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(len(counts), SIZE))
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return (means[y] + rng.normal(size=(len(y), SIZE))).astype(dtype), y


LONG_TAIL = draw([600, 120, 30])
BALANCED = draw([300, 300, 300], seed=1)


@pytest.fixture(scope="module")
def fitted():
    return LongTailClassifier(random_state=0).fit(*LONG_TAIL)


def test_a_batch_norm_of_rows_standardizes_them():
    settings = {"epochs": 2, "random_state": 0}
    plain = LongTailClassifier("logit_adjustment", **settings).fit(*LONG_TAIL)
    for other in (
        LongTailClassifier("bn_la", **settings),
        LongTailClassifier("logit_adjustment", shrinkage=0.1, **settings),
    ):
        other.fit(*LONG_TAIL)
        np.testing.assert_allclose(other.coef_, plain.coef_, rtol=1e-5)
        assert other.shrinkage_ == 1
    white = LongTailClassifier("cw_la", shrinkage=0.1, **settings).fit(*LONG_TAIL)
    assert white.shrinkage_ == 0.1
    assert abs(white.coef_ - plain.coef_).max() > 1e-3


@pytest.mark.slow
def test_the_checks_of_scikit_learn_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped
        check_estimator(LongTailClassifier(), expected_failed_checks=OF_SGD, on_skip=None)


def test_the_prior_that_is_named_is_the_one_predicted(fitted):
    long_tail, balanced = draw([1200, 240, 60], seed=2), BALANCED
    losses = {}
    for prior in ("uniform", "train"):
        fitted.target_prior = prior
        losses[prior] = [log_loss(y, fitted.predict_proba(X)) for X, y in (long_tail, balanced)]
    assert losses["train"][0] < losses["uniform"][0] - 0.02
    assert losses["uniform"][1] < losses["train"][1] - 0.02
    fitted.target_prior = fitted.class_prior_
    assert log_loss(long_tail[1], fitted.predict_proba(long_tail[0])) == losses["train"][0]
    fitted.target_prior = "uniform"


def test_the_code_of_the_readme_runs(capsys):
    (code,) = (block for block in blocks("README.md") if "LongTailClassifier" in block)
    names = {"embeddings": LONG_TAIL[0], "labels": LONG_TAIL[1], "new_embeddings": BALANCED[0]}
    exec(compile(code, "README.md", "exec"), names)
    assert names["classifier"].target_prior == "train"
    assert capsys.readouterr().out


def blocks(document):
    text = (Path(__file__).parents[1] / document).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_a_strong_weight_decay_does_not_diverge():
    model = LongTailClassifier(weight_decay=30.0, epochs=5, random_state=0).fit(*LONG_TAIL)
    assert np.abs(model.coef_).max() < 0.1


def test_rare_classes_are_found(fitted):
    X, y = BALANCED
    plain = LongTailClassifier("ce", tau=0.0, random_state=0).fit(*LONG_TAIL)
    better = balanced_accuracy_score(y, fitted.predict(X))
    assert better > balanced_accuracy_score(y, plain.predict(X)) + 0.02
    assert fitted.decision_function(X).argmax(axis=1).tolist() == fitted.predict(X).tolist()


def test_held_out_rows_are_no_part_of_the_covariance():
    # With few rows for a feature, whitening by a row's own covariance makes this row easy: then
    # the smallest shrinkage looks best, and the largest one is, for noise of one variance.
    rng = np.random.default_rng(0)
    means, y = rng.normal(size=(4, 120)), np.arange(400) % 4
    X = (means[y] + 4 * rng.normal(size=(400, 120))).astype(np.float32)
    model = LongTailClassifier("lda", validation_fraction=0.3, random_state=0).fit(X, y)
    assert model.shrinkage_ == 0.9


def test_coefficients_are_those_of_raw_rows(fitted):
    X, _ = BALANCED
    raw = X @ fitted.coef_.T + fitted.intercept_
    through_basis = fitted._fitted.logits(fitted._fitted_by, X)
    np.testing.assert_allclose(raw, through_basis, atol=1e-4)


@pytest.mark.parametrize("given", [{}, {"hidden": (4,)}, {"method": "ldam"}, {"method": "lda"}])
def test_what_was_saved_or_pickled_predicts_the_same(tmp_path, given):
    X, y = LONG_TAIL
    names = np.array(["head", "body", "tail"])
    model = LongTailClassifier(epochs=1, random_state=0, **given).fit(pd.DataFrame(X), names[y])
    model.save(tmp_path / "model")
    loaded = LongTailClassifier.load(tmp_path / "model")
    copied = pickle.loads(pickle.dumps(model))
    expected = model.predict_proba(pd.DataFrame(X))
    for other in (loaded, copied):
        assert (other.predict_proba(pd.DataFrame(X)) == expected).all()
        assert other.get_params() == model.get_params()
        assert other.classes_.tolist() == ["body", "head", "tail"]
    loaded.partial_fit(pd.DataFrame(X), names[y])  # the moments came along


def test_frames_and_maps_give_what_arrays_give(tmp_path, fitted):
    X, y = LONG_TAIL
    expected = fitted.predict_proba(X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    columns = [f"f{i}" for i in range(SIZE)]
    frames = [pd.DataFrame(X, columns=columns), pl.DataFrame(X, schema=columns)]
    for rows in [mapped, *frames]:
        model = LongTailClassifier(random_state=0).fit(rows, y)
        np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-6)
    assert model.feature_names_in_.tolist() == columns
    for dtype in (np.float16, np.float64):
        other = LongTailClassifier(random_state=0).fit(X.astype(dtype), y)
        np.testing.assert_allclose(other.predict_proba(X.astype(dtype)), expected, atol=0.02)


def test_features_are_not_copied(monkeypatch):
    monkeypatch.setattr(choice, "MOST_ROWS", 1000)  # of which there is a copy
    rows = np.random.default_rng(0).random((25_000, 256), np.float32)
    labels = np.arange(len(rows)) % 10
    tracemalloc.start()
    LongTailClassifier("lda", shrinkage=0.5, random_state=0).fit(rows, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.45 * rows.nbytes


def test_weights_count_like_rows():
    X, y = LONG_TAIL
    weights = np.where(y == 2, 4.0, 1.0)
    rows = np.repeat(np.arange(len(y)), weights.astype(int))
    weighted = LongTailClassifier("lda", shrinkage=0.5, random_state=0).fit(X, y, weights)
    repeated = LongTailClassifier("lda", shrinkage=0.5, random_state=0).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-4, atol=1e-5)
    assert weighted.class_prior_.tolist() == repeated.class_prior_.tolist()
    # Rows of weight 0 are as good as absent.
    extra = np.concatenate([X, 100 + X]), np.concatenate([y, y])
    zero = LongTailClassifier(random_state=0, epochs=1).fit(*extra, np.repeat([1.0, 0.0], len(y)))
    without = LongTailClassifier(random_state=0, epochs=1).fit(X, y, np.ones(len(y)))
    np.testing.assert_allclose(zero.coef_, without.coef_, rtol=1e-5, atol=1e-6)


def test_parts_together_are_close_to_all_at_once():
    X, y = LONG_TAIL
    model = LongTailClassifier("lda", shrinkage=0.5, tau=1.0)
    for part in np.array_split(np.argsort(y, kind="stable"), 4):  # classes come one by one
        model.partial_fit(X[part], y[part], classes=[0, 1, 2])
    whole = LongTailClassifier("lda", shrinkage=0.5, tau=1.0).fit(X, y)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-3, atol=1e-4)
    head = LongTailClassifier(random_state=0)
    for part in np.array_split(np.arange(len(y)), 4):
        head.partial_fit(X[part], y[part], classes=[0, 1, 2])
    before = balanced_accuracy_score(BALANCED[1], head.predict(BALANCED[0]))
    assert before > 0.6


def test_a_warm_start_goes_on():
    X, y = LONG_TAIL
    model = LongTailClassifier(
        random_state=0, epochs=1, warm_start=True, learning_rate=1e-6, shrinkage=0.5, weight_decay=0
    )
    far = clone(model).set_params(learning_rate=0.1).fit(X, y)
    slopes = far.coef_.copy()
    far.set_params(learning_rate=1e-6).fit(X, y)
    np.testing.assert_allclose(far.coef_, slopes, atol=1e-3)
    assert abs(model.fit(X, y).coef_ - slopes).max() > 0.05
    with pytest.raises(ValueError, match="same classes"):
        far.fit(X[y < 2], y[y < 2])


def test_it_stops_early_and_says_what_it_does(capsys):
    X, y = LONG_TAIL
    model = LongTailClassifier(
        early_stopping=True, verbose=True, epochs=30, learning_rate=0.5, random_state=0
    )
    model.fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("chosen:")
    assert lines[1].startswith("epoch 1/30  held-out log loss")
    held_out = [float(line.split()[-1]) for line in lines[1:]]
    assert model.n_iter_ == 1 + int(np.argmin(held_out))
    assert len(held_out) in (30, model.n_iter_ + 5)


def test_seeds_are_averaged():
    X, y = LONG_TAIL
    given = {"epochs": 1, "shrinkage": 0.5, "weight_decay": 0.0, "random_state": 0}
    model = LongTailClassifier(seeds=2, hidden=(4,), **given).fit(X, y)
    one, two = (
        model._fitted._replace(variables=_take(model._fitted.variables, index)).logits(
            model._fitted_by._replace(seeds=1), X
        )
        for index in (0, 1)
    )
    assert abs(one - two).max() > 1e-3
    both = model._fitted.logits(model._fitted_by, X)
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-5)


def _take(tree, index):
    if isinstance(tree, dict):
        return {name: _take(leaf, index) for name, leaf in tree.items()}
    return tree[index : index + 1]


def test_it_works_within_scikit_learn():
    X, y = LONG_TAIL
    base = LongTailClassifier("lda", random_state=0)
    pipeline = make_pipeline(StandardScaler(), base).set_output(transform="pandas")
    assert pipeline.fit(X, y).score(X, y) > 0.5
    search = GridSearchCV(base, {"shrinkage": [0.1, 0.9]}, cv=2, scoring="balanced_accuracy")
    assert search.fit(X, y).best_params_["shrinkage"] in (0.1, 0.9)
    assert len(cross_val_score(base, X, y, cv=3)) == 3
    calibrated = CalibratedClassifierCV(base, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (len(y), 3)


@pytest.mark.slow
def test_two_processes_fit_what_one_fits():
    X, y = LONG_TAIL
    base = LongTailClassifier(epochs=1, random_state=0)
    with joblib.parallel_config("loky", n_jobs=2):
        found = cross_val_score(base, X, y, cv=2)
    assert found.tolist() == cross_val_score(base, X, y, cv=2).tolist()


X3, Y3 = np.eye(3, dtype=np.float32).repeat(2, axis=0), np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (np.full((6, 3), np.nan), Y3, "Input X contains NaN"),
        (np.full((6, 3), np.inf), Y3, "Input X contains infinity"),
        (X3, np.zeros(6), "number of classes has to be greater than one; got 1 class"),
        (X3, np.linspace(0, 1, 6), "Unknown label type: continuous"),
        (X3[:0], Y3[:0], "Found array with 0 sample"),
        (X3[:, :0], Y3, r"Found array with 0 feature\(s\)"),
        (X3, Y3[:5], "inconsistent numbers of samples"),
        (X3[0], Y3[:1], "Expected 2D array, got 1D array"),
        (np.array([["a"], ["b"]], object), np.array([0, 1]), "could not convert string to float"),
    ],
)
def test_bad_input_gets_the_words_of_scikit_learn(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        LongTailClassifier().fit(rows, labels)


def test_rows_to_predict_are_checked(fitted):
    with pytest.raises(NotFittedError):
        LongTailClassifier().predict(X3)
    with pytest.raises(ValueError, match="X has 3 features, but LongTailClassifier is expecting 5"):
        fitted.predict(X3)


def test_a_class_of_one_row_is_learned_but_cannot_be_held_out():
    X, y = draw([100, 20, 1])
    model = LongTailClassifier("lda", random_state=0).fit(X, y)
    assert model.predict(X[y == 2]).tolist() == [2]
    with pytest.raises(ValueError, match="least populated class in y has only 1 member"):
        model.set_params(early_stopping=True).fit(X, y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "svm"}, r"method = .svm. is not allowed; use one of ce"),
        ({"shrinkage": 0}, "shrinkage = 0 is not allowed"),
        ({"weight_decay": -1}, "weight_decay = -1 is not allowed"),
        ({"tau": "best"}, r"tau = .best. is not allowed"),
        ({"epochs": 0}, "epochs = 0 is not allowed; use an integer >= 1"),
        ({"batch_size": 1.5}, "batch_size = 1.5 is not allowed"),
        ({"hidden": (0,)}, r"hidden = \(0,\) is not allowed"),
        ({"seeds": None}, "seeds = None is not allowed"),
        ({"validation_fraction": 1.0}, "validation_fraction = 1.0 is not allowed"),
        ({"device": "abacus"}, "device = 'abacus' is not available"),
        ({"learning_rate": 1e5, "epochs": 1}, "the loss is not finite with learning_rate"),
    ],
)
def test_a_wrong_parameter_is_named(given, message):
    with pytest.raises(InputError, match=message):
        LongTailClassifier(**given).fit(*LONG_TAIL)


@pytest.mark.parametrize("prior", ["test", [0.5, 0.5], [0.5, 0.6, 0.1], [1.5, -0.5, 0.0]])
def test_a_wrong_target_prior_is_refused(fitted, prior):
    model = clone(fitted).set_params(method="lda").fit(*LONG_TAIL)
    with pytest.raises(InputError, match=r"target_prior = .* is not allowed"):
        model.set_params(target_prior=prior).predict(LONG_TAIL[0])
