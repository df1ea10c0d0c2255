"""Turns come in the order of arrival, one at a time, and a failure ends one as well."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.turns import Turns


def test_turns_come_in_the_order_of_arrival() -> None:
    turns, order, threads = Turns(), [], []

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        for number in range(5):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == list(range(5))


def test_two_turns_never_overlap_however_many_come() -> None:
    turns, working, most = Turns(), [0], [0]

    def take(_: int) -> None:
        with turns:
            working[0] += 1
            most[0] = max(most[0], working[0])
            time.sleep(0.0001)
            working[0] -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(400)))
    assert most == [1]


def test_failure_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    assert not turns._taken
