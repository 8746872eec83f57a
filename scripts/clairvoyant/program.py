"""A linear program that grows: columns and rows by arrays, solved anew from where it stood."""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Columns = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The optimum of a program."""

    objective: float
    values: Floats


class Program:
    """Maximises. Rows are added one at a time, with the columns that they touch."""

    def __init__(self) -> None:
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
        self._num_columns = 0
        self._pending: list[tuple[ArrayLike, ArrayLike, float, float]] = []

    def add_columns(
        self, costs: Sequence[float] | Floats, lowers: ArrayLike, uppers: ArrayLike
    ) -> Columns:
        """Add variables with their weight in the objective; return their numbers."""
        num_new = len(costs)
        nothing = np.zeros(0, dtype=np.int32)
        self._highs.addCols(
            num_new,
            np.asarray(costs, dtype=np.float64),
            np.asarray(lowers, dtype=np.float64),
            np.asarray(uppers, dtype=np.float64),
            0,
            np.zeros(num_new, dtype=np.int32),
            nothing,
            np.zeros(0),
        )
        first = self._num_columns
        self._num_columns += num_new
        return np.arange(first, self._num_columns, dtype=np.int32)

    def set_objective(self, columns: Columns, weights: ArrayLike) -> None:
        """Change the weights of columns in the objective."""
        weights = np.asarray(weights, dtype=np.float64)
        self._highs.changeColsCost(len(columns), columns, weights)

    def add_row(
        self,
        columns: ArrayLike,
        coefficients: ArrayLike,
        *,
        lower: float = -np.inf,
        upper: float = np.inf,
    ) -> None:
        """Add a constraint on a sum; no column twice."""
        self._pending.append((columns, coefficients, lower, upper))

    def solve(self) -> Solution:
        """Return the optimum.

        Raises:
            RuntimeError: there is none, or it was not found.
        """
        self._flush()
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(f"the program was not solved: {status}")
        return Solution(
            objective=float(self._highs.getInfo().objective_function_value),
            values=np.array(self._highs.getSolution().col_value),
        )

    def _flush(self) -> None:
        if not self._pending:
            return
        columns = [np.asarray(row[0], dtype=np.int32) for row in self._pending]
        lengths = np.array([len(each) for each in columns])
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int32)
        self._highs.addRows(
            len(columns),
            np.array([row[2] for row in self._pending], dtype=np.float64),
            np.array([row[3] for row in self._pending], dtype=np.float64),
            int(lengths.sum()),
            starts,
            np.concatenate(columns),
            np.concatenate([np.asarray(row[1], dtype=np.float64) for row in self._pending]),
        )
        self._pending.clear()
