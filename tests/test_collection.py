"""What decides which files a suite collects, and which of them begin first."""

from types import SimpleNamespace

import pytest

from tests.support.collection import SECONDS, TESTS, longest_first, names_its_markers

NAME = "docker"


def item(path, *markers):
    return SimpleNamespace(path=path, nodeid=f"{path}::test", iter_markers=lambda: map(marker, markers))


def marker(name):
    return SimpleNamespace(name=name)


def test_marker_that_does_not_stand_in_the_tests_own_file_is_refused(tmp_path):
    """Such as one that a fixture or a plugin adds: `make test-docker` would never collect the file."""
    silent, telling = tmp_path / "test_silent.py", tmp_path / "test_telling.py"
    silent.write_text("def test(): ...\n")
    telling.write_text(f"pytestmark = pytest.mark.{NAME}\n")
    names_its_markers(item(telling, NAME))
    names_its_markers(item(silent, "parametrize"))
    with pytest.raises(pytest.UsageError, match=r"test_silent\.py::test has the marker docker"):
        names_its_markers(item(silent, NAME))


def test_files_that_take_long_come_before_those_with_many_tests_and_keep_their_order():
    longest, long = sorted(SECONDS, key=lambda name: -SECONDS[name])[:2]
    few, many = TESTS / "test_few.py", TESTS / "test_many.py"
    items = [item(path) for path in (few, *[many] * 3, TESTS / long, TESTS / longest)]
    for number, one in enumerate(items):
        one.number = number
    longest_first(items)
    assert [one.number for one in items] == [5, 4, 1, 2, 3, 0]
