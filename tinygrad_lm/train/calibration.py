"""Is what a model says with 80% true in eight cases of ten? (Guo et al. 2017 [CALIB])"""
import numpy as np

from .reward import pairs_of
from .safety import sigmoid


def preferences(rewards):
    """The probability that the answer with the higher reward is preferred, σ of the difference, for each pair; and the same
    pairs' order in `rewards` (B, K): (p (B, K(K−1)/2), at least ½; +1 where the first of the pair is the higher, else −1).

    Bradley and Terry's probabilities hold for rewards as they were learned: what was normalised is to be multiplied by
    `model.std` again.
    """
    i, j = pairs_of(rewards)
    difference = rewards[:, i] - rewards[:, j]
    return sigmoid(abs(difference)), np.where(difference < 0, -1, 1)


def true_preferences(scores, order):
    """How probable it really is that those are preferred, by true scores (B, K): σ(±difference)."""
    i, j = pairs_of(scores)
    return sigmoid(order * (scores[:, i] - scores[:, j]))


def calibration(predicted, truth, *, bins=10):
    """Mean prediction, mean truth and size of each bin of equal width between 0 and 1 that has any: three arrays.

    predicted in [0, 1] and truth, probabilities or labels, have one shape.
    """
    predicted, truth = np.ravel(predicted), np.ravel(truth)
    b = np.minimum((predicted * bins).astype(int), bins - 1)
    n = np.bincount(b, minlength=bins)
    some = n > 0
    return tuple(np.bincount(b, x, minlength=bins)[some] / n[some] for x in (predicted, truth)) + (n[some],)


def calibration_error(predicted, truth, *, bins=10):
    """How far predictions are from the truth, on average over bins, each with the weight of its size: the expected
    calibration error ([CALIB] eq. 3)."""
    said, found, n = calibration(predicted, truth, bins=bins)
    return float((n * abs(said - found)).sum() / n.sum())
