"""The operator that previews the impact of a release on Databricks, once."""

from typing import Any

from lifecycle import settings
from lifecycle.evidence.impact import nothing_to_preview
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

    def action(self) -> str:
        """It names the two versions: a run that was cleared may offer another one."""
        return f"{self.purpose}-{self.candidate['version']}-{self.candidate['production']['version'] or 'none'}"

    def config(self, context: Any) -> dict[str, Any]:
        """The two versions, and where the tables lie."""
        configured = settings.load()
        return {
            **self.places(),
            "challenger": self.candidate["version"],
            "champion": self.candidate["production"]["version"],
            "today": context["dag_run"].run_after.date().isoformat(),
            "memory": configured.retraining.memory,
            "threads": configured.retraining.threads,
        }
