"""The operator that starts a run of another DAG with what other people have named."""

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator


class StartRunOperator(TriggerDagRunOperator):
    """Airflow's own, which reads nothing that it is given as a template.

    A mapped operator renders its values, and the name of a file is whatever somebody wrote: ``{{ conn.x.password }}``
    would be answered.
    """

    template_fields = ()
