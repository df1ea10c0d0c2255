"""What the tests of DAGs and operators share: settings, and a task's function run as Airflow runs it."""

import inspect
from typing import Any

from airflow.sdk.execution_time.context import set_current_context

from lifecycle.settings import Settings, Signing

USE_CASE = "attrition"
"""The use case that tests of the rails work for where one is as good as another."""


class Memory(dict[str, Any]):
    """Airflow's task state store has get and set."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def make_settings(of: dict[str, Any] | None = None, **tables: Any) -> Settings:
    """Settings of a test environment; ``of`` holds the values of ``USE_CASE``.

    Signatures are not required: tests that are about them say so.
    """
    tables = {"signing": Signing(required=False), **tables}
    urls = {"airflow_url": "http://airflow", "mlflow_url": "http://mlflow"}
    return Settings(**({"environment": "test", **urls, "use_cases": {USE_CASE: of or {}}} | tables))


def run_task(task: Any, context: Any, *arguments: Any) -> Any:
    """What the function of a ``@task`` returns in this context; of a generator, all that it yields."""
    with set_current_context(context):
        found = task.function(*arguments)
        return list(found) if inspect.isgenerator(found) else found
