"""The command line of the files that Databricks runs: ``FILE TASK --run-key KEY --config JSON``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from training import trace
from training.use_case import UseCase, UseCaseError, load


class Config(Protocol):
    """What a job is told at least."""

    @property
    def use_case(self) -> str: ...


_Config = TypeVar("_Config", bound=Config)


def make_parser(program: str, description: str, tasks: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a job's file. What is wrong beyond its reach is told by its ``error``."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--run-key", required=True, help="names the job: the same key is the same job")
    parser.add_argument("--config", required=True, help="JSON, as the file's own type of configuration has it")
    trace.accept(parser)
    return parser


def begin(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Read the arguments, be a part of the caller's trace, and let the log go to standard output."""
    parsed = parser.parse_args(arguments)
    trace.take_up(parsed.trace_parent)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    return parsed


def read_config(parser: argparse.ArgumentParser, text: str, kind: type[_Config]) -> tuple[_Config, UseCase]:
    """The configuration and the use case that it names; ends the process with the parser's error where it is wrong."""
    try:
        config = msgspec.json.decode(text, type=kind)
        return config, load(config.use_case)
    except (msgspec.MsgspecError, UseCaseError) as error:
        parser.error(f"--config is wrong: {error}")
