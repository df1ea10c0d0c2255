"""What threads read at the same time is described before the first of them reads it (serving.scoring.described)."""

import ast
import importlib
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import msgspec
import pytest

from lifecycle.approval_keys import KeyRing
from lifecycle.release_page.airflow_view import _Events, _Questions, _Runs
from lifecycle.signing.rings import SigningRing
from serving.scoring.described import DESCRIBED

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"plugins": ROOT / "plugins", "serving": ROOT, "embedded": ROOT}
"""Those whose processes have threads, and the folder that their modules are imported from."""
CHOSEN_WHEN_CALLED = {
    ("lifecycle.release_page.airflow_view", "kind"): [_Runs, _Events, _Questions],
    ("lifecycle.approval_keys", "cls"): [KeyRing],
    ("lifecycle.signing.rings", "cls"): [SigningRing],
}
TWO_USE_CASES = textwrap.dedent("""
    import sys, threading, types
    import msgspec
    from serving.scoring.described import described

    sys.setswitchinterval(1e-6)
    source = '''
    from __future__ import annotations
    import msgspec
    class Inner(msgspec.Struct):
        number: int
        text: str = ""
        figures: dict[str, float] = {}
    class Middle(msgspec.Struct):
        one: Inner
        more: list[Inner]
        other: Inner | None = None
    {decorator}
    class Outer(msgspec.Struct):
        first: Middle
        second: Middle
        rest: list[Middle]
    '''
    inner = b'{"number": 1, "figures": {"a": 1.5}}'
    middle = b'{"one": %s, "more": [%s], "other": %s}' % (inner, inner, inner)
    text = b'{"first": %s, "second": %s, "rest": [%s]}' % (middle, middle, middle)
    for number in range(300):
        module = sys.modules[f"made{number}"] = types.ModuleType(f"made{number}")
        module.described = described
        exec(source.replace("{decorator}", sys.argv[1]), vars(module))
        start = threading.Barrier(6)
        faults = []
        def read():
            start.wait()
            try:
                msgspec.json.decode(text, type=module.Outer)
            except Exception as error:
                faults.append(error)
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults, faults
""")


def kinds_read(tree):
    """The types that a module's calls of msgspec name, as they are written."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("msgspec."):
            if ast.unparse(call.func) == "msgspec.convert":
                yield from call.args[1:2]
            yield from (keyword.value for keyword in call.keywords if keyword.arg == "type")


def structs(kind):
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in typing.get_args(kind):
        yield from structs(inner)


def names_in(module, tree):
    """What a module's names stand for, with those that one of its functions imports."""
    names = dict(vars(importlib.import_module(module)))
    for imported in ast.walk(tree):
        if isinstance(imported, ast.ImportFrom):
            holder = importlib.import_module(imported.module)
            names |= {one.name: getattr(holder, one.name) for one in imported.names if hasattr(holder, one.name)}
    return names


def read_in(room):
    """Module and type, for every type of ``msgspec.Struct`` that the modules of a room read."""
    for path in sorted((ROOT / room).rglob("*.py")):
        name = ".".join(path.relative_to(ROOMS[room]).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        for written in map(ast.unparse, kinds_read(tree)):
            kinds = CHOSEN_WHEN_CALLED.get((name, written)) or [eval(written, names_in(name, tree))]  # noqa: S307
            yield from ((name, struct) for kind in kinds for struct in structs(kind))


@pytest.mark.parametrize("room", ROOMS)
def test_every_type_that_a_room_with_threads_reads_is_described_where_it_is_defined(room):
    read = list(read_in(room))
    assert read
    assert [f"{kind.__qualname__}, read by {name}" for name, kind in read if kind not in DESCRIBED] == []


def run(decorator):
    return subprocess.run([sys.executable, "-c", TWO_USE_CASES, decorator], cwd=ROOT, capture_output=True, text=True)


def test_threads_that_read_a_described_type_at_once_all_get_it():
    done = run("@described")
    assert done.returncode == 0, done.stderr
