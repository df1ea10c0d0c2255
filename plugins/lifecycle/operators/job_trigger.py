"""The trigger that waits for a job's run on Databricks, and says what changes meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.triggers.base import TriggerEvent


class JobTrigger(DatabricksExecutionTrigger):
    """The provider's trigger, which writes the same line at every look; this one writes a line for every change."""

    @classmethod
    def like(cls, other: DatabricksExecutionTrigger) -> Self:
        """A trigger for what ``other`` waits for."""
        return cls(**other.serialize()[1])

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes it of again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end, then let the provider's trigger say what came of it."""
        told: dict[str, str] = {}
        async with self.hook:
            while True:
                found = await self.hook.a_get_run(self.run_id)
                for name, state in _states(found).items():
                    if told.get(name) != state:
                        self.log.info("%s: %s", name, state)
                told = _states(found)
                if RunState(**found["state"]).is_terminal:
                    break
                await asyncio.sleep(self.polling_period_seconds)
        async for event in super().run():  # type: ignore[no-untyped-call]
            yield event


def _states(run: dict[str, Any]) -> dict[str, str]:
    """Tasks of a job's run that have begun, with how each stands in a word."""
    states = {task["task_key"]: task.get("state") or {} for task in run.get("tasks") or []}
    return {
        name: str(state.get("result_state") or state["life_cycle_state"]).lower()
        for name, state in states.items()
        if state.get("life_cycle_state") not in (None, "PENDING", "BLOCKED", "QUEUED")
    }
