"""The trace that a job is a part of (W3C Trace Context): who started it says so, and its runs in MLflow keep the id."""

import argparse
import os

from training.registry import tags

_VARIABLE = "TRACEPARENT"
_PARTS = 4


def accept(parser: argparse.ArgumentParser) -> None:
    """Let a job be told its trace."""
    parser.add_argument("--trace-parent", default="", help="traceparent of who started the job")


def take_up(trace_parent: str) -> None:
    """Be a part of the trace from now on; without one, of none."""
    os.environ[_VARIABLE] = trace_parent


def trace_tags() -> dict[str, str]:
    """The tag of a run in MLflow; nothing where the job was told no trace."""
    parts = os.environ.get(_VARIABLE, "").split("-")
    return {tags.TRACE_ID: parts[1]} if len(parts) == _PARTS else {}
