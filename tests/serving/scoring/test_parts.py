import numpy as np
import pytest

from serving.scoring.parts import ROWS_AT_ONCE, by_parts


@pytest.mark.parametrize("rows", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 7])
def test_a_function_sees_no_more_rows_than_may_be_at_once_and_answers_for_each_in_order(rows: int) -> None:
    x, seen = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), []

    def total(part: np.ndarray) -> np.ndarray:
        seen.append(len(part))
        return part.sum(axis=1)

    np.testing.assert_array_equal(by_parts(total, x), x.sum(axis=1))
    assert sum(seen) == rows
    assert max(seen) <= ROWS_AT_ONCE
