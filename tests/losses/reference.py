"""The losses of the field in float64 NumPy, written from their papers, one scalar each.

Independent of ltjax: explicit loops over examples and classes, no shared helper with it.
"""

import math

import numpy as np


def log_sum(terms):
    """log sum exp of a list."""
    top = max(terms)
    return top + math.log(sum(math.exp(t - top) for t in terms))


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return np.stack([row - log_sum(list(row)) for row in z])


def at_least_one(counts):
    return np.maximum(np.asarray(counts, np.float64), 1.0)


def cross_entropy(z, y, counts):
    return float(np.mean([-row[c] for row, c in zip(log_softmax(z), y, strict=True)]))


def logit_adjustment(z, y, counts, tau):
    """Menon et al. 2021: log(1 + sum_{c != y} (pi_c / pi_y)^tau e^(z_c - z_y))."""
    pi = at_least_one(counts) / at_least_one(counts).sum()
    total = 0.0
    for row, own in zip(np.asarray(z, np.float64), y, strict=True):
        terms = [tau * math.log(pi[c] / pi[own]) + row[c] - row[own] for c in range(len(pi))]
        total += log_sum(terms)
    return total / len(y)


def balanced_softmax(z, y, counts):
    """Ren et al. 2020: -log( n_y e^(z_y) / sum_c n_c e^(z_c) )."""
    n = at_least_one(counts)
    total = 0.0
    for row, own in zip(np.asarray(z, np.float64), y, strict=True):
        terms = [math.log(n[c]) + row[c] for c in range(len(n))]
        total += log_sum(terms) - terms[own]
    return total / len(y)


def vector_scaling(z, y, counts, gamma, tau):
    """Kini et al. 2021."""
    n = at_least_one(counts)
    scaled = np.asarray(z, np.float64) * (n / n.max()) ** gamma + tau * np.log(n / n.sum())
    return cross_entropy(scaled, y, counts)


def as_the_rarest(counts):
    """Classes without images count as the rarest that has some."""
    n = np.asarray(counts, np.float64)
    return np.where(n == 0, n[n > 0].min(), n)


def ldam(z, y, counts, max_margin, scale):
    """Cao et al. 2019: margins n^(-1/4), scaled to a largest of max_margin."""
    margins = 1.0 / np.sqrt(np.sqrt(as_the_rarest(counts)))
    margins = margins * (max_margin / margins.max())
    shifted = np.array(z, np.float64)
    for i, own in enumerate(y):
        shifted[i, own] -= margins[own]
    return cross_entropy(scale * shifted, y, counts)


def focal(z, y, counts, gamma):
    """Lin et al. 2017 on the softmax."""
    total = 0.0
    for row, own in zip(log_softmax(z), y, strict=True):
        total -= (1 - math.exp(row[own])) ** gamma * row[own]
    return total / len(y)


def effective_weights(counts, beta):
    """Cui et al. 2019: per class with images, normalized to a mean of 1."""
    n = np.asarray(counts, np.float64)
    present = n > 0
    weights = np.zeros(len(n))
    weights[present] = (1 - beta) / (1 - beta ** n[present])
    return weights / weights.sum() * present.sum()


def inverse_weights(counts):
    n = np.asarray(counts, np.float64)
    weights = np.array([1 / c if c else 0.0 for c in n])
    return weights / weights.sum() * (n > 0).sum()


def weighted(z, y, counts, weights):
    rows = log_softmax(z)
    return float(np.mean([-weights[c] * row[c] for row, c in zip(rows, y, strict=True)]))


def weighted_mean(z, y, counts, weights):
    """As `torch.nn.functional.cross_entropy(z, y, weight)`: divided by the sum of the weights."""
    rows = log_softmax(z)
    total = sum(-weights[c] * row[c] for row, c in zip(rows, y, strict=True))
    return float(total / sum(weights[c] for c in y))


def lade(z, y, counts, alpha, penalty, published=False):
    """Hong et al. 2021: balanced softmax + sum_c pi_c (bound of class c, regularized).

    The published code subtracts the log prior of the logit's class, not of the example's.
    """
    z = np.asarray(z, np.float64)
    classes = z.shape[1]
    pi = at_least_one(counts) / at_least_one(counts).sum()
    value = 0.0
    for c in range(classes):
        members = [z[i, c] for i in range(len(y)) if y[i] == c]
        first = sum(members) / len(members) if members else 0.0
        of = [c if published else own for own in y]
        terms = [z[i, c] + math.log(1 / classes / pi[of[i]]) for i in range(len(y))]
        second = log_sum(terms) - math.log(len(y))
        value += pi[c] * (-first + second + penalty * second**2)
    return balanced_softmax(z, y, counts) + alpha * value


def equalization(z, y, counts, threshold):
    """Tan et al. 2020, softmax form, every draw 1: rare classes never are negatives."""
    n = at_least_one(counts)
    total = 0.0
    for row, own in zip(np.asarray(z, np.float64), y, strict=True):
        kept = [
            row[c] for c in range(len(n)) if c == own or not n[c] / n.sum() < threshold / len(n)
        ]
        total += log_sum(kept) - row[own]
    return total / len(y)


def sigmoid_focal(z, y, counts, gamma):
    """The code of Cui et al. 2019: a binary focal loss per class, summed, by example."""
    total = 0.0
    for row, own in zip(np.asarray(z, np.float64), y, strict=True):
        for c, logit in enumerate(row):
            signed = logit if c == own else -logit
            log_right, log_wrong = (
                min(s, 0) - math.log1p(math.exp(-abs(s))) for s in (signed, -signed)
            )
            total -= math.exp(gamma * log_wrong) * log_right
    return total / len(y)


def seesaw(z, y, counts, p, q, fixed=None, floor=0.0):
    """Wang et al. 2021; `fixed` are the logits of the compensation factor."""
    n = at_least_one(counts)
    scores = log_softmax(z if fixed is None else fixed)
    total = 0.0
    for row, score, own in zip(np.asarray(z, np.float64), scores, y, strict=True):
        terms = []
        for c in range(len(n)):
            mitigation = p * math.log(n[c] / n[own]) if n[c] < n[own] else 0.0
            wrong = max(score[own], math.log(floor)) if floor else score[own]
            compensation = q * max(score[c] - wrong, 0.0)
            terms.append(row[c] + (mitigation + compensation if c != own else 0.0))
        total += log_sum(terms) - row[own]
    return total / len(y)


def label_smoothing(z, y, counts, epsilon):
    rows = log_softmax(z)
    classes = rows.shape[1]
    total = 0.0
    for row, own in zip(rows, y, strict=True):
        for c in range(classes):
            total -= ((1 - epsilon) * (c == own) + epsilon / classes) * row[c]
    return total / len(y)


def label_aware_smoothing(z, y, counts, head, tail, published=False):
    """Zhong et al. 2021, concave; their code takes the mean over all classes."""
    n = as_the_rarest(counts)
    rows = log_softmax(z)
    classes = rows.shape[1]
    total = 0.0
    for row, own in zip(rows, y, strict=True):
        place = (n[own] - n.min()) / (n.max() - n.min()) if n.max() > n.min() else 1.0
        epsilon = tail + (head - tail) * math.sin(math.pi * place / 2)
        if published:
            total -= (1 - epsilon) * row[own] + epsilon * sum(row) / classes
            continue
        for c in range(classes):
            total -= (1 - epsilon if c == own else epsilon / (classes - 1)) * row[c]
    return total / len(y)
