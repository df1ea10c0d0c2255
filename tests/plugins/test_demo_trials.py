"""What the demo says of a search that is under way, beside MLflow's own server."""

from embedded.demo import trials
from lifecycle.hooks import registry
from lifecycle.idempotency import action_key
from training.registry.tracking import Tracker
from training.search.trial_result import TrialResult


def test_trials_are_asked_of_mlflow_as_the_job_logs_them(mlflow_connection):
    """The table said 'deferred' for half a minute, and nothing of trials."""
    client, run_id = registry.client(), "demo__1"
    key = action_key(dag_id="attrition_train", run_id=run_id, task_id="train_and_register", purpose="training")
    progress = trials.Trials(client.tracking_uri, "attrition_train", run_id)
    assert progress() == ""
    tracker = Tracker(experiment="progress", model_name="m", run_key=key)
    run = tracker.start({})
    tracker.log(run, {}, {"trials": 3}, {})
    for number, score in enumerate((0.8, 0.9)):
        tracker.record_trial(run, TrialResult(number, {"family": "logistic"}, (score, score, score), 0.1))
    assert trials.Trials(client.tracking_uri, "attrition_train", run_id)() == "trial 2 of 3, best ROC AUC so far 0.9000"
