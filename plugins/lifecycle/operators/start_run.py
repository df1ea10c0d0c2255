"""The operators that start a run of another DAG, once."""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from lifecycle.four_eyes import STARTED_BY
from training.use_case import UseCase


class StartRunOperator(TriggerDagRunOperator):
    """Airflow's own, which reads nothing that it is given as a template.

    A mapped operator renders its values, and the name of a file is whatever somebody wrote: ``{{ conn.x.password }}``
    would be answered.
    """

    template_fields = ()


def start_training(use_case: UseCase, decided: Any, *told: str) -> TriggerDagRunOperator:
    """The task that starts the training which a judgement has decided on.

    The run is named after the period that was judged: it is started once, however often and in how many runs that is
    judged.

    :param decided: what the deciding task returned; ``why`` is what the approver reads of the reason.
    :param told: those of its members that the training is told.
    """
    return TriggerDagRunOperator(
        task_id="trigger_training",
        trigger_dag_id=use_case.train_dag,
        trigger_run_id=decided["run_id"],
        # Who is behind a training, and behind the release that follows, is who is behind this run.
        conf={
            **{name: decided[name] for name in told},
            STARTED_BY: {"dag_id": "{{ dag.dag_id }}", "run_id": "{{ run_id }}", "why": decided["why"]},
        },
        reset_dag_run=False,
        skip_when_already_exists=True,
    )
