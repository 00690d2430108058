"""Rounds the weights of sums so that later weights take over the error of those rounded before them.

Inputs vary together: what rounding one weight does to a sum, the weights of inputs that vary alike can undo.
Source: Frantar et al., "GPTQ", arXiv:2210.17323, section 3, with the covariance of the inputs in place of
their second moments, because biases take back what rounding does to the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcucompile.ir import Array
from mcucompile.numerics import Int, Real

# Returns the codes of weights (rows, 1) and the reals that those codes mean, (rows, 1) both.
Rounder = Callable[[Real], tuple[Int, Real]]
# Inputs further apart than this are taken as independent, so that the cost is linear in the weights.
_BLOCK = 512
# Weights are rounded one input after the other, but the others are told only this often.
_STEP = 32
# Share of the mean variance that is added to every variance: no input is known so well that another one may
# be used without limit to undo its errors. GPTQ, section 4, "dampening".
_DAMPING = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How the errors of some neighbouring inputs' weights are taken over, for each group of outputs.

    Attributes:
        order: (groups, n) the inputs from the one that varies most to the one that varies least.
        covariance: (groups, n, n) of the inputs in that order, positive definite.
        shares: (groups, n, n) upper triangular: row i says how input i's error goes to the inputs after it.
    """

    order: Int
    covariance: Real
    shares: Real


def spread_of(rows: Array) -> tuple[Spread, ...]:
    """Measure inputs, (groups, rows, n_in). Few rows say little of pairs: those shrink towards independence."""
    count, inputs = rows.shape[1:]
    blocks = []
    for start in range(0, inputs, _BLOCK):
        part = rows[:, :, start : start + _BLOCK].astype(np.float64)
        part -= part.mean(axis=1, keepdims=True)
        order = np.argsort(-np.square(part).mean(axis=1), axis=1, kind="stable")
        part = np.take_along_axis(part, order[:, None, :], axis=2)
        size = part.shape[2]
        covariance = part.transpose(0, 2, 1) @ part / count
        variances = np.diagonal(covariance, axis1=1, axis2=2)
        floor = _DAMPING * variances.mean(axis=1, keepdims=True)
        diagonal = variances + np.where(floor > 0, floor, 1.0)
        covariance *= count / (count + size)
        covariance[:, np.arange(size), np.arange(size)] = diagonal
        shares = np.linalg.cholesky(np.linalg.inv(covariance)).transpose(0, 2, 1)
        blocks.append(Spread(order, covariance, shares))
    return tuple(blocks)


def round_together(weight: Real, round_: Rounder, spread: tuple[Spread, ...]) -> tuple[Int, Real]:
    """Round weights; the outputs of one group follow one another.

    Args:
        weight: (outputs, n_in); outputs are split evenly over the groups of the spread.
        round_: gives the codes of one input's weights.
        spread: of the inputs, in order.
    Returns:
        Codes, (outputs, n_in), and for each output the variance of its sum's error, (outputs,).
    """
    codes = np.empty(weight.shape, dtype=np.int64)
    error = np.zeros(len(weight))
    start = 0
    for block in spread:
        groups, size = block.order.shape
        place = slice(start, start + size)
        start += size
        order = block.order[:, None, :]
        exact = np.take_along_axis(weight[:, place].reshape(groups, -1, size), order, axis=2)
        found, rounded = _round_block(exact, round_, block.shares)
        codes[:, place] = np.take_along_axis(found, np.argsort(order, axis=2), axis=2).reshape(len(weight), -1)
        difference = exact - rounded
        error += ((difference @ block.covariance) * difference).sum(axis=-1).reshape(-1)
    return codes, error


def _round_block(weight: Real, round_: Rounder, shares: Real) -> tuple[Int, Real]:
    """Round (groups, outputs, n), inputs in order; return codes and the reals they mean, same shape."""
    pending = weight.copy()
    codes = np.empty(weight.shape, dtype=np.int64)
    rounded = np.empty(weight.shape)
    inputs = weight.shape[2]
    for start in range(0, inputs, _STEP):
        end = min(start + _STEP, inputs)
        errors = np.empty((*weight.shape[:2], end - start))
        for i in range(start, end):
            found, values = round_(pending[:, :, i].reshape(-1, 1))
            codes[:, :, i] = found.reshape(weight.shape[:2])
            rounded[:, :, i] = values.reshape(weight.shape[:2])
            error = (pending[:, :, i] - rounded[:, :, i]) / shares[:, i, i, None]
            pending[:, :, i + 1 : end] -= error[:, :, None] * shares[:, i, None, i + 1 : end]
            errors[:, :, i - start] = error
        pending[:, :, end:] -= errors @ shares[:, start:end, end:]
    return codes, rounded
