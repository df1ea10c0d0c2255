"""Constant load on a scoring server, and a count of every request that failed."""

import threading
import time
from collections import Counter
from typing import Any

import requests

from tests.kubernetes.cluster import API_KEY


class Load:
    """Several clients that ask for predictions until they are told to stop.

    Half of them keep their connection, as a client library does; half open a new one for each request, as
    an ingress does for a new user.
    """

    def __init__(self, url: str, record: dict[str, Any], clients: int = 4, pause: float = 0.02) -> None:
        self._url = url
        self._record = record
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, keep: bool) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            began = time.strftime("%H:%M:%S")
            try:
                answer = (session if keep else requests).post(
                    f"{self._url}/predict", json=[self._record], headers={"X-API-Key": API_KEY}, timeout=15
                )
                outcome, failed = answer.json()["model"]["version"] if answer.ok else "", not answer.ok
                reason = f"{answer.status_code} {answer.text[:200]}"
            except (requests.RequestException, ValueError, KeyError) as error:
                outcome, failed, reason = "", True, repr(error)
            with self._lock:
                if failed:
                    self.failures.append(f"{began} {'kept' if keep else 'new'} connection: {reason}")
                else:
                    self.versions[outcome] += 1
            time.sleep(self._pause)
