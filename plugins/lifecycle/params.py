"""The fields of a DAG's trigger form. What may stay empty is ``None`` there: the form takes no empty text."""

from typing import Any, Literal

from airflow.sdk import Param

from lifecycle.settings import NO_PLAN

Kind = Literal["string", "integer", "boolean"]
_UNBOUNDED = 2**31 - 1
_TABLE = "CSV, Parquet or Delta, as the job reaches it"


def optional(kind: Kind, title: str, description: str, *, otherwise: str, **schema: Any) -> Param:
    """A field that may stay empty.

    :param otherwise: what is taken then, in words: ``the challenger``; empty where nothing would be.
    :param schema: further members of its JSON Schema, such as ``minimum``; bounds are told in the form.
    """
    return Param(
        None,
        type=["null", kind],
        title=title,
        description=f"{description}{_bounds(schema)} {_if_empty(otherwise)}".strip(),
        **schema,
    )


def flag(title: str, description: str) -> Param:
    """A switch, off by default."""
    return Param(False, type=["null", "boolean"], title=title, description=description)


def required_text(title: str, description: str, *, longest: int = 500) -> Param:
    """A text of at least three characters that a person has to type."""
    return Param(
        type="string",
        minLength=3,
        maxLength=longest,
        title=title,
        description=f"{description} 3 to {longest} characters.",
    )


def table(title: str, otherwise: str) -> Param:
    """The place of a table that a job reads; ``otherwise`` is the one of the settings, if they name one."""
    return optional("string", title, f"{_TABLE}.", otherwise=otherwise)


def version(otherwise: str) -> Param:
    """A version of the registry; ``otherwise`` is the one that is taken where none is given, in words."""
    return optional("integer", "Version", "Its number in the registry.", otherwise=otherwise, minimum=1)


def day(description: str) -> Param:
    """A date that follows from the run where it is not given."""
    return optional("string", "Date", description, otherwise="the run's own date (UTC)", format="date")


def planned(plan: str) -> Param:
    """The plan beside a history, where series are forecast; ``plan`` is the one of the settings."""
    return optional(
        "string", "Plan", f"What is planned: {_TABLE}. Type {NO_PLAN} for no plan.", otherwise=plan or "no plan"
    )


def _if_empty(otherwise: str) -> str:
    return f"Leave empty for {otherwise}." if otherwise else "The settings name none, so name one here."


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", _UNBOUNDED)
    if low is None:
        longest = schema.get("maxLength")
        return f" At most {longest} characters." if longest else ""
    return f" From {low} on." if high == _UNBOUNDED else f" From {low} to {high}."
