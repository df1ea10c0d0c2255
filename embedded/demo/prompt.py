"""The question at the gate, in a terminal, while somebody may answer it in the browser."""

import select
import sys
import termios
from collections.abc import Callable

_POLL = 1.0
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def ask(question: str, still_asked: Callable[[], bool]) -> bool | None:
    """Yes or no as typed; ``None`` when ``still_asked`` says that nobody needs to know any more.

    Return alone is no, and anything else than yes and no is asked again. What was typed before the question
    was there does not count. Raises ``EOFError`` when the terminal is closed: that is not an answer.
    """
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    print(question, end="", flush=True)
    while True:
        if select.select([sys.stdin], [], [], _POLL)[0]:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            typed = line.strip().lower()
            if typed in _ANSWERS:
                return _ANSWERS[typed]
            print(f"{typed!r} is neither yes nor no. {question}", end="", flush=True)
        elif not still_asked():
            print()
            return None
