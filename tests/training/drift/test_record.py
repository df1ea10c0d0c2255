"""How a night's verdict is kept in MLflow."""

from datetime import UTC, datetime, time, timedelta
from types import SimpleNamespace

from training.drift.record import keep
from training.registry import tags


def test_run_of_a_night_is_dated_by_it_and_never_ahead():
    """The night of today began tomorrow, and MLflow showed that it had lasted less than nothing."""
    made = []

    def create_run(experiment_id, **given):
        made.append(given)
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    client = SimpleNamespace(create_run=create_run, log_batch=lambda *_, **__: None, set_terminated=lambda run_id: None)
    tracker = SimpleNamespace(find=lambda: None, client=client, experiment_id="1", run_key="night")
    today = datetime.now(UTC).date()
    for night in (today, today - timedelta(days=3)):
        keep(tracker, night, "night", {}, {tags.ABOUT: "quiet"}, [])
    assert made[0]["start_time"] <= datetime.now(UTC).timestamp() * 1000
    closed = datetime.combine(today - timedelta(days=2), time(), UTC)
    assert made[1]["start_time"] == closed.timestamp() * 1000
    assert next(iter(made[0]["tags"])) == tags.ABOUT, "what people read is written first"
