"""What follows from the kind of a label: the one place where the rails ask for it.

Values alone, so that DAG files read them quickly: modules are named here and imported where they are needed.
"""

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What the rails do otherwise for labels of one kind."""

    tasks: str
    """Module with the tasks ``prepare``, ``tune`` and ``evaluate`` of the training job, and with ``model_arguments``:
    how the model is logged in MLflow (``training.registry.register.ModelArguments``)."""
    period: str
    """What people call the span of time that monitoring judges."""
    runs_beside: bool
    """Whether a released version first runs beside the champion, and takes over once the two were compared."""

    @property
    def retrain(self) -> str:
        """The end of the id of the DAG that judges each period, and starts a training where there is reason to."""
        return f"retrain_{self.period}ly"


KINDS = {
    "binary": Kind(
        tasks="training.classification",
        period="night",
        runs_beside=False,
    ),
    "quantity": Kind(
        tasks="training.forecasting.tasks",
        period="week",
        runs_beside=True,
    ),
}
"""By the tag of the label's type."""
