"""The question at the gate, typed at in a real pseudo-terminal."""

import os
import pty
import select
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from embedded.environment import ROOT

QUESTION = "Approve version 1 for production? [y/N] "
PROGRAM = f"""
import sys, time
from pathlib import Path
from embedded.demo_prompt import ask

Path(sys.argv[2]).write_text("started")
while not Path(sys.argv[3]).exists():
    time.sleep(0.02)
try:
    print("decided:", ask({QUESTION!r}, lambda: not Path(sys.argv[1]).exists()))
except EOFError:
    print("decided: no answer")
"""


class Terminal:
    """A child whose terminal is ours: what it shows, and the keys that it gets."""

    def __init__(self, folder):
        self.answered, self._started, self._go = (folder / name for name in ("answered", "started", "go"))
        files = [str(path) for path in (self.answered, self._started, self._go)]
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-c", PROGRAM, *files])  # noqa: S606 - this is the child
        self.shown = ""
        self.wait(self._started.exists)

    def wait(self, condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.shown
            if select.select([self._screen], [], [], 0.02)[0]:
                try:
                    self.shown += os.read(self._screen, 4096).decode()
                except OSError:  # the child has ended and closed its side
                    time.sleep(0.02)

    def ask(self):
        self._go.touch()
        self.see(QUESTION)

    def see(self, text):
        self.wait(lambda: text in self.shown)

    def type(self, keys):
        os.write(self._screen, keys.encode())

    def exit_code(self):
        ended = SimpleNamespace(status=None)

        def reaped():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                ended.status = status
            return bool(pid)

        self.wait(reaped)
        return os.waitstatus_to_exitcode(ended.status)

    def close(self):
        os.close(self._screen)


@pytest.fixture
def terminal(tmp_path):
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("keys", "decision"),
    [("y\r", True), ("YES\r", True), ("n\r", False), ("no\r", False), ("\r", False)],
    ids=["y", "YES", "n", "no", "return alone"],
)
def test_typed_answer_is_taken_and_return_alone_is_no(terminal, keys, decision):
    terminal.ask()
    terminal.type(keys)
    terminal.see(f"decided: {decision}")
    assert terminal.exit_code() == 0


def test_anything_else_is_asked_again(terminal):
    terminal.ask()
    terminal.type("perhaps\r")
    terminal.see(f"'perhaps' is neither yes nor no. {QUESTION}")
    terminal.type("y\r")
    terminal.see("decided: True")


def test_answer_given_in_the_browser_meanwhile_ends_the_wait(terminal):
    terminal.ask()
    terminal.answered.touch()
    terminal.see("decided: None")


def test_return_pressed_before_the_question_is_no_answer_to_it(terminal):
    terminal.type("\r\r")
    time.sleep(0.2)  # until the terminal has it
    terminal.ask()
    terminal.type("y\r")
    terminal.see("decided: True")


def test_ctrl_c_at_the_question_interrupts(terminal):
    terminal.ask()
    terminal.type("\x03")
    assert terminal.exit_code() in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in terminal.shown
    assert "decided" not in terminal.shown


def test_closed_input_is_no_answer(terminal):
    terminal.ask()
    terminal.type("\x04")
    terminal.see("decided: no answer")
