"""The operator that scores one table on Databricks, once."""

from typing import Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

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

    def execute(self, context: Any) -> None:
        """Refuse what nobody has approved; then find or start this task's run."""
        # Imported here: mlflow takes seconds, and DAG files import this module.
        from lifecycle.hooks import registry

        try:
            self.check_approval()
        except registry.RegistryError as error:
            raise AirflowFailException(f"nothing is written by version {self.pinned['version']}: {error}") from error
        super().execute(context)

    def check_approval(self) -> None:
        """Raise ``RegistryError`` unless the version has an approval that counts.

        What the task before has found to be approved comes by an XCom, which somebody may write.
        """
        from lifecycle.evidence import document as evidence
        from lifecycle.hooks import registry

        evidence.read_last_approved(self.use_case, registry.resolve(self.use_case, self.pinned["version"]))

    def config(self, context: Any) -> dict[str, Any]:
        """What was pinned, and where the tables lie, which no pin says."""
        return {**self.pinned, **self.places()}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The table and the version became the scores of a date, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        return lineage.scored(self.use_case, self.pinned, self.places()["tables"])
