"""The operator that previews the impact of a release on Databricks, once."""

from typing import Any

from lifecycle import settings
from lifecycle.evidence.impact import nothing_to_preview
from lifecycle.idempotency import action_key
from lifecycle.operators.job_run import JobRunOperator
from training import use_case as definitions


class PreviewRunOperator(JobRunOperator):
    """Score the newest list of records with challenger and champion (see ``JobRunOperator``).

    Where nothing can be compared, no job is started and no code is published. It publishes the code itself, so that
    a first release does not wait for a task that it does not need.

    :param candidate: what ``lifecycle.tasks.release.resolve_candidate`` returned. (templated)
    """

    template_fields = (*JobRunOperator.template_fields, "candidate")
    purpose = "preview"
    entry = "training/preview_job.py"
    steps = ("preview",)

    def __init__(self, *, candidate: Any, **kwargs: Any) -> None:
        super().__init__(code=None, **kwargs)
        self.candidate = candidate

    def execute(self, context: Any) -> None:
        """Find or start this task's run, where there is something to preview."""
        if reason := nothing_to_preview(self.use_case, self.candidate):
            context["ti"].xcom_push(key="run_key", value=self.run_key(context["ti"]))
            self.log.info("no job is started: %s", reason)
            return
        # Imported here: these take a while, and DAG files import this module.
        from lifecycle.hooks.databricks import WorkspaceHook
        from lifecycle.tasks import publish

        found = definitions.load(self.use_case)
        self.code = publish.publish(WorkspaceHook(), found, settings.load().training.code_root)
        super().execute(context)

    def run_key(self, instance: Any) -> str:
        """The job's key, which names the two versions: a run that was cleared may offer another one."""
        versions = f"{self.candidate['version']}-{self.candidate['production']['version'] or 'none'}"
        return action_key(
            dag_id=instance.dag_id,
            run_id=instance.run_id,
            task_id=instance.task_id,
            purpose=f"{self.purpose}-{versions}",
        )

    def config(self, context: Any) -> dict[str, Any]:
        """The two versions, and where the settings say that the tables lie."""
        configured = settings.load()
        found = configured.of(self.use_case)
        return {
            "use_case": self.use_case,
            "challenger": self.candidate["version"],
            "champion": self.candidate["production"]["version"],
            "today": context["dag_run"].run_after.date().isoformat(),
            "tables": found.job_tables or found.tables,
            "model_name": found.model_name,
            "experiment": found.experiment,
            "memory": configured.retraining.memory,
            "threads": configured.retraining.threads,
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Nothing of its own: it makes no table and no model."""
        return None
