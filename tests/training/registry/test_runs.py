"""Look-ups of runs read every page: a tracking server may answer with few runs, or none, and go on."""

from types import SimpleNamespace

import pytest
from mlflow.store.entities import PagedList

from training.registry.runs import search_runs


class Tracking:
    """Answers the pages that it was given, one after the other."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages = [[SimpleNamespace(info=SimpleNamespace(run_id=run_id)) for run_id in page] for page in pages]
        self.asked: list[tuple[list[str], str, list[str]]] = []

    def search_runs(self, experiments, matching, order_by, page_token=None):
        self.asked.append((experiments, matching, order_by))
        number = int(page_token or 0)
        more = str(number + 1) if number + 1 < len(self.pages) else None
        return PagedList(self.pages[number] if self.pages else [], more)


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([["a", "b"]], ["a", "b"], id="one page"),
        pytest.param([["a"], [], ["b", "c"]], ["a", "b", "c"], id="an empty page in between"),
    ],
)
def test_every_page_is_read(pages, expected):
    tracking = Tracking(*pages)
    assert [run.info.run_id for run in search_runs(tracking, "1", "x", order_by=["y"])] == expected
    assert set(map(str, tracking.asked)) == {str((["1"], "x", ["y"]))}


def test_no_page_is_asked_for_that_nobody_needs():
    tracking = Tracking(["a"], ["b"])
    assert next(search_runs(tracking, "1")).info.run_id == "a"
    assert len(tracking.asked) == 1
