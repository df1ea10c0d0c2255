"""Two threads give the answer of one, however requests come."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_bundles import Attrition

from serving.scoring.assistant import Assistant
from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_fields

SIZES = (1, 63, 64, 255, 256, 1000)


@pytest.fixture
def assisted(attrition: Attrition) -> Bundle:
    bundle = Bundle.load(attrition.folder)
    bundle.start_assistant()
    return bundle


def test_assisted_answers_are_the_unassisted_ones(attrition: Attrition, bundle: Bundle, assisted: Bundle) -> None:
    fields = encode_fields(attrition.employees.columns(), bundle.contract)
    for size in SIZES:
        expected = bundle.score_fields(fields[:size])
        assert assisted.score_fields(fields[:size], alone=True) == expected
        assert assisted.score_fields(fields[:size], alone=False) == expected


def test_requests_that_come_together_are_all_answered_right(
    attrition: Attrition, bundle: Bundle, assisted: Bundle
) -> None:
    fields = encode_fields(attrition.employees.columns(), bundle.contract)
    parts = [fields[first : first + 300] for first in range(0, 1170, 30)]
    with ThreadPoolExecutor(4) as clients:
        together = list(clients.map(assisted.score_fields, parts))
    assert together == [bundle.score_fields(part) for part in parts]


def test_busy_assistant_declines_and_is_free_again_after_its_work() -> None:
    go_on = threading.Event()
    assistant = Assistant(lambda answer: (go_on.wait(10), answer))
    working = assistant.begin("first")
    assert working is not None
    assert assistant.begin("second") is None
    go_on.set()
    assert working() == (True, "first")
    again = assistant.begin("third")
    assert again is not None
    assert again() == (True, "third")


def test_failure_of_the_work_reaches_who_asked_and_leaves_the_assistant_free() -> None:
    assistant: Assistant[int, float] = Assistant(lambda divisor: 1 / divisor)
    failing = assistant.begin(0)
    assert failing is not None
    with pytest.raises(ZeroDivisionError):
        failing()
    again = assistant.begin(2)
    assert again is not None
    assert again() == 0.5
