"""Two threads give the answer of one, however requests come."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.scoring.assistant import Assistant
from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_fields
from tests.support.serving_bundles import Attrition

SIZES = (1, 63, 64, 255, 256, 1000)


@pytest.fixture
def assisted(attrition: Attrition) -> Bundle:
    bundle = Bundle.load(attrition.folder)
    bundle.start_assistant()
    return bundle


def test_assisted_answers_are_the_unassisted_ones(attrition: Attrition, bundle: Bundle, assisted: Bundle) -> None:
    fields = encode_fields(attrition.employees.columns(), bundle.contract)
    for size in SIZES:
        assert assisted.score_fields(fields[:size]) == bundle.score_fields(fields[:size])


def test_requests_that_come_together_are_all_answered_right(
    attrition: Attrition, bundle: Bundle, assisted: Bundle
) -> None:
    fields = encode_fields(attrition.employees.columns(), bundle.contract)
    parts = [fields[first : first + 300] for first in range(0, 1170, 30)]
    with ThreadPoolExecutor(4) as clients:
        together = list(clients.map(assisted.score_fields, parts))
    assert together == [bundle.score_fields(part) for part in parts]


def test_outcomes_come_in_the_order_of_the_pieces_whoever_took_them() -> None:
    def work(piece: int) -> tuple[int, str]:
        time.sleep(0.001)
        return piece, threading.current_thread().name

    assistant = Assistant(work)
    takers = set()
    for _ in range(20):
        outcomes = assistant.begin(range(5))()
        assert [piece for piece, _ in outcomes] == list(range(5))
        takers |= {taker for _, taker in outcomes}
    assert takers == {"assistant", threading.current_thread().name}


def test_nobody_waits_for_an_assistant_that_is_busy() -> None:
    go_on = threading.Event()
    begun = threading.Event()

    def work(piece: str) -> str:
        if piece == "long":
            begun.set()
            assert go_on.wait(10)
        return piece

    assistant = Assistant(work)
    long = assistant.begin(["long"])
    assert begun.wait(10)
    assert assistant.begin(["one", "two"])() == ["one", "two"]
    go_on.set()
    assert long() == ["long"]


def test_failure_of_the_work_reaches_who_asked_and_the_assistant_goes_on() -> None:
    failed_there = threading.Event()

    def divide(divisor: int) -> float:
        try:
            return 1 / divisor
        finally:
            if threading.current_thread().name == "assistant":
                failed_there.set()

    assistant: Assistant[int, float] = Assistant(divide)
    failing = assistant.begin([0])
    assert failed_there.wait(10)
    with pytest.raises(ZeroDivisionError):
        failing()
    assert assistant.begin([2, 4])() == [0.5, 0.25]
