"""The operator that runs the training job on Databricks, once."""

from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.operators.job_run import JobRunOperator
from training import use_case as definitions


class TrainingRunOperator(JobRunOperator):
    """Submit prepare, tune, evaluate and register as one Databricks run (see ``JobRunOperator``)."""

    purpose = "training"
    entry = "training/training_job.py"
    steps = ("prepare", "tune", "evaluate", "register")

    def config(self, context: Any) -> dict[str, Any]:
        """The DAG's params over the settings; thresholds are the definition's own."""
        configured, definition = settings.load(), definitions.load(self.use_case)
        found, params, signing = configured.of(self.use_case), context["params"], configured.signing
        if signing.required and not signing.bundle_key:
            raise AirflowFailException(
                "bundles have to be signed, and bundle_key of [signing] in the settings names no key: name one, which "
                "`make signing-key` makes (docs/signing.md), or set required to false"
            )
        return {
            "use_case": self.use_case,
            "data": params.get("data") or found.data,
            **({"plan": found.planned(params.get("plan"))} if definition.series else {}),
            "trials": params.get("trials") or found.trials,
            "seed": found.seed if params.get("seed") is None else params["seed"],
            "force": bool(params.get("force")),
            "model_name": found.model_name,
            "experiment": found.experiment,
            "parallel_trials": configured.training.parallel_trials,
            "signing_key": signing.bundle_key,
            "signing_credential": signing.bundle_credential,
            "code_hash": self.code["code_hash"],
            "git_revision": self.code["git_revision"],
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Data set, training run and model version, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        data = task_instance.get_template_context()["params"].get("data") or settings.load().of(self.use_case).data
        return lineage.trained(self.use_case, data, self.run_key(task_instance))
