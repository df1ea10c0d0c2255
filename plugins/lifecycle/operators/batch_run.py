"""The operator that scores one table on Databricks, once."""

from typing import Any, ClassVar

from lifecycle.operators.job_run import JobRunOperator


class BatchRunOperator(JobRunOperator):
    """Score one table with one pinned version (see ``JobRunOperator``).

    :param pinned: what ``lifecycle.tasks.scoring.pin_model`` returned: the table, the date, and the version that
        scores. (templated)
    """

    template_fields = (*JobRunOperator.template_fields, "pinned")
    purpose = "scoring"
    entry = "training/batch_job.py"
    steps: ClassVar[tuple[str, ...]] = ("score",)

    def __init__(self, *, pinned: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pinned = pinned

    def config(self, context: Any) -> dict[str, Any]:
        """What was pinned, and where the tables lie."""
        return {**self.places(), **self.pinned}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The table and the version became the scores of a date, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        return lineage.scored(self.use_case, self.pinned, self.places()["tables"])
