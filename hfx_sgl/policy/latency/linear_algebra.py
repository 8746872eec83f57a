"""Solves small symmetric systems in plain Python: a 4 x 4 needs no library."""

from collections.abc import Sequence
from math import sqrt

Matrix = list[list[float]]

_LEAST_PIVOT_RATIO = 1e-12


def cholesky(matrix: Matrix) -> Matrix:
    """Return the lower triangle L with L times its transpose equal to `matrix`.

    The matrix is symmetric, without negative eigenvalues and with a diagonal above 0; only its
    lower triangle is read. A pivot that rounding has made too small or negative is replaced by a
    small part of the diagonal, so that a nearly singular matrix has a solution of moderate size.
    """
    size = len(matrix)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        row = lower[i]
        for j in range(i):
            other = lower[j]
            total = matrix[i][j]
            for k in range(j):
                total -= row[k] * other[k]
            row[j] = total / other[j]
        total = least = matrix[i][i]
        least *= _LEAST_PIVOT_RATIO
        for k in range(i):
            total -= row[k] * row[k]
        row[i] = sqrt(total if total > least else least)
    return lower


def solve(lower: Matrix, right: Sequence[float]) -> list[float]:
    """Return x with L times its transpose times x equal to `right`."""
    size = len(right)
    solution = list(right)
    for i in range(size):
        row = lower[i]
        total = solution[i]
        for k in range(i):
            total -= row[k] * solution[k]
        solution[i] = total / row[i]
    for i in range(size - 1, -1, -1):
        total = solution[i]
        for k in range(i + 1, size):
            total -= lower[k][i] * solution[k]
        solution[i] = total / lower[i][i]
    return solution
