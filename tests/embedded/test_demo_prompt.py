"""The demo on a real pseudo-terminal: the question at the gate, and the table of tasks."""

import signal

import pytest

from tests.support.terminal import Terminal

QUESTION = "Approve version 1 for production? [y/N] "
PROMPT = f"""
import sys, time
from pathlib import Path
from embedded.demo.prompt import ask

started, go, answered = map(Path, sys.argv[1:])
started.touch()
while not go.exists():
    time.sleep(0.02)
try:
    print("decided:", ask({QUESTION!r}, lambda: not answered.exists()))
except EOFError:
    print("decided: no answer")
"""


class Question(Terminal):
    """A program that asks when it is told to, and that can be told that somebody else has answered."""

    def __init__(self, folder):
        self._started, self._go, self.answered = (folder / name for name in ("started", "go", "answered"))
        super().__init__(PROMPT, str(self._started), str(self._go), str(self.answered))
        self.wait(self._started.exists)

    def ask(self):
        self._go.touch()
        self.see(QUESTION)


@pytest.fixture
def terminal(tmp_path):
    opened = Question(tmp_path)
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
    terminal.wait(lambda: terminal.shown.count("\r\n") == 2)  # the terminal has both, and shows them
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


TABLE = """
import sys, time
from pathlib import Path
from rich.console import Console
from embedded.demo.view import TaskView, View

console = Console(highlight=False)
view = View(console)
with view.following():
    for state in ("queued", "running", "success"):
        view.update([TaskView("attrition_train", "train_and_register", state, 12.3, None, None, 1)])
        while not Path(sys.argv[1], state).exists():
            time.sleep(0.02)
print("after the table")
"""


def test_table_on_a_terminal_shows_each_state_in_its_place_and_gives_the_cursor_back(tmp_path):
    terminal = Terminal(TABLE, str(tmp_path))
    try:
        for state in ("queued", "running", "success"):
            terminal.see(state)
            (tmp_path / state).touch()
        terminal.see("after the table")
        assert terminal.exit_code() == 0
    finally:
        terminal.close()
    for text in ("DAG", "task", "state", "seconds", "attrition_train", "train_and_register", "queued", "running"):
        assert text in terminal.shown
    last = terminal.shown.rsplit("train_and_register", 1)[1]
    assert "success" in last
    assert "12.3" in last
    assert "\x1b[1A" in terminal.shown, "it is drawn over and not again and again"
    assert terminal.shown.index("\x1b[?25l") < terminal.shown.rindex("\x1b[?25h")
