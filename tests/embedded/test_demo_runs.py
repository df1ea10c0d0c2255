"""The demo goes on with its own runs, and leaves those of others alone."""

from types import SimpleNamespace

import pytest

from embedded.demo import runs as demo_runs
from embedded.demo.runs import RunError, Runs
from embedded.demo.walk import Demo, DemoError
from embedded.environment import Stack
from lifecycle.events import files
from lifecycle.task_ids import AWAIT_APPROVAL
from training.use_case import load

SENTENCE = "model version 3 asks to replace version 2 in production."
TRAIN, RELEASE = "attrition_train", "attrition_release"


class AirflowDouble:
    """Runs, asset events and answers in memory, with the shapes of Airflow's REST API."""

    url = "http://airflow"

    def __init__(self):
        self.states = {}
        """DAG and run to state, oldest first."""
        self.waiting = set()
        """Runs whose gate waits for an answer."""
        self.started = {}
        """Training run to the version that it registered, and the releases that this started."""
        self.candidates = {}
        """Release to the version that it offers."""
        self.answers = []

    def runs(self, dag_id, state):
        runs = self.states.items()
        found = [{"dag_run_id": run, "state": has} for (dag, run), has in runs if dag == dag_id and has in state]
        return found[::-1]

    def run(self, dag_id, run_id):
        return {"dag_run_id": run_id, "state": self.states[dag_id, run_id], "note": None}

    def find_run(self, dag_id, run_id):
        return self.run(dag_id, run_id) if (dag_id, run_id) in self.states else None

    def trigger(self, dag_id, run_id, conf):
        self.states[dag_id, run_id] = "running"

    def questions(self, dag_id, run_id):
        return [{"task_id": AWAIT_APPROVAL}] if run_id in self.waiting else []

    def result(self, dag_id, run_id, task_id):
        return {"version": self.candidates[run_id], "sentence": SENTENCE}

    def asset_events(self, source_dag_id, source_run_id):
        assert source_dag_id == TRAIN
        if source_run_id not in self.started:
            return []
        version, releases = self.started[source_run_id]
        created = [{"dag_id": RELEASE, "run_id": run_id} for run_id in releases]
        return [{"extra": {"version": version}, "created_dagruns": created}]

    def link(self, dag_id, run_id, task_id=None):
        return f"{self.url}/{dag_id}/{run_id}" + (f"/{task_id}" if task_id else "")

    def answer(self, *answer):
        self.answers.append(answer)


@pytest.fixture
def airflow():
    return AirflowDouble()


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    return path


@pytest.fixture
def runs(airflow, tmp_path):
    return Runs(airflow, load("attrition"), tmp_path / "run")


@pytest.fixture
def demo(airflow, tmp_path):
    """A demo that approves, on a stack that is up."""
    stack = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    made = Demo(stack, load("attrition"), data=None, synthetic=False, approve="yes", keep=True)
    made._airflow, made._runs = airflow, Runs(airflow, load("attrition"), tmp_path / "run")
    made._follower = SimpleNamespace(wait=lambda dag_id, run_id, question=None: "awaiting_input")
    made._post_sample = lambda target: None
    return made


def registers(airflow, train_run, version, *releases):
    """A training run ends with a version that starts releases."""
    airflow.states[TRAIN, train_run] = "success"
    airflow.started[train_run] = (version, releases)
    for release in releases:
        airflow.states.setdefault((RELEASE, release), "running")
        airflow.candidates.setdefault(release, version)


def test_training_is_gone_on_with_until_its_release_has_ended(airflow, runs, data):
    assert runs.under_way(data) is None
    mine = runs.train(data)
    assert runs.under_way(data) == mine
    registers(airflow, mine, "1")
    assert runs.under_way(data) == mine, "its release is still to begin"
    registers(airflow, mine, "1", "release-1")
    assert runs.under_way(data) == mine
    airflow.states[RELEASE, "release-1"] = "success"
    assert runs.under_way(data) is None


@pytest.mark.parametrize("end", ["failed", "nothing registered", "deleted"])
def test_training_that_leads_nowhere_is_not_gone_on_with(airflow, runs, data, end):
    mine = runs.train(data)
    airflow.states[TRAIN, mine] = "failed" if end == "failed" else "success"
    if end == "deleted":
        del airflow.states[TRAIN, mine]
    assert runs.under_way(data) is None


def test_training_on_other_content_is_not_gone_on_with_whatever_the_file_is_called(airflow, runs, data, tmp_path):
    mine = runs.train(data)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(data.read_bytes())
    assert runs.under_way(copy) == mine
    data.write_text("a,b\n1,3\n")
    assert runs.under_way(data) is None


def test_training_of_somebody_else_is_named_and_not_gone_on_with(airflow, runs, data):
    airflow.states[TRAIN, "manual__1"] = "running"
    assert runs.under_way(data) is None
    mine = runs.train(data)
    assert runs.other_trainings(mine) == ["http://airflow/attrition_train/manual__1"]


def test_gate_of_somebody_else_is_named_and_neither_answered_nor_waited_for(airflow, demo, data):
    airflow.states[RELEASE, "manual__1"] = "running"
    airflow.waiting.add("manual__1")
    with pytest.raises(
        DemoError, match=r"manual__1, which no demo started, waits for an answer at its gate"
    ) as refusal:
        demo._train(data)
    assert f"{airflow.link(RELEASE, 'manual__1', AWAIT_APPROVAL)}/required_actions" in str(refusal.value)
    assert airflow.answers == []
    assert list(airflow.states) == [(RELEASE, "manual__1")], "nothing is trained that could not be released"


def test_gate_of_a_demo_on_other_data_is_left_alone_and_its_data_named(airflow, demo, data, tmp_path):
    earlier = demo._runs.train(data)
    registers(airflow, earlier, "1", "release-1")
    airflow.waiting.add("release-1")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n5,6\n")
    with pytest.raises(DemoError, match=f"release-1, which a demo on {data} started, waits for an answer"):
        demo._train(other)
    assert airflow.answers == []
    assert demo._runs.under_way(data) == earlier, "that demo can still be gone on with"


def test_release_that_waits_behind_another_is_left_for_later(airflow, demo, data):
    mine = demo._runs.train(data)
    airflow.states[RELEASE, "manual__1"] = "running"
    airflow.states[RELEASE, "release-1"] = "queued"
    registers(airflow, mine, "2", "release-1")
    with pytest.raises(DemoError, match=r"manual__1, which no demo started, is under way"):
        demo._release(mine, None)
    assert airflow.answers == []
    assert demo._runs.under_way(data) == mine


def test_release_behind_the_own_one_does_not_stop_it(airflow, demo, data):
    mine = demo._runs.train(data)
    registers(airflow, mine, "2", "release-1")
    airflow.states[RELEASE, "manual__1"] = "queued"
    demo._leave_others_alone(mine)


def test_own_release_that_offers_a_version_of_somebody_else_is_not_answered(airflow, demo, data):
    mine = demo._runs.train(data)
    registers(airflow, mine, "2", "release-1")
    airflow.candidates["release-1"] = "3"
    with pytest.raises(DemoError, match="release-1 offers version 3, but this demo trained version 2"):
        demo._release(mine, None)
    assert airflow.answers == []


def test_dropped_file_is_found_as_the_run_that_it_starts(airflow, demo, data, monkeypatch, tmp_path):
    """The run's id follows from the file, so the demo knows it before there is a run."""
    bronze = tmp_path / "bronze"
    monkeypatch.setattr(files, "SETTLE_SECONDS", 0.0)

    def find(dag_id, run_id):
        found = [one.run_id for one in files.local("data", bronze)]
        assert found == [run_id]
        return {"dag_run_id": run_id, "state": "running"}

    monkeypatch.setattr(airflow, "find_run", find)
    run_id = demo._runs.drop(data, bronze)
    assert [path.read_bytes() for path in bronze.iterdir()] == [data.read_bytes()]
    assert demo._runs.under_way(data) == run_id


def test_dropped_history_finds_its_own_plan_where_its_run_looks_for_it(airflow, data, monkeypatch, tmp_path):
    """Not that of made-up rows of an earlier demo."""
    demand, stack = load("demand"), Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    mine = tmp_path / "mine.csv"
    mine.write_text("a plan")
    stack.plan("demand").parent.mkdir(parents=True)
    stack.plan("demand").write_text("of made-up rows")
    demo = Demo(stack, demand, data=str(data), synthetic=False, approve="yes", keep=True, drop=True, plan=str(mine))
    demo._airflow, demo._runs = airflow, Runs(airflow, demand, tmp_path / "run")
    demo._follower = SimpleNamespace(
        wait=lambda *_, **__: "success",
        tasks={("demand_train", "announce_model_version"): SimpleNamespace(state="success")},
    )
    dropped = []

    def find(dag_id, run_id):
        if not dropped:
            dropped.append((dag_id, run_id, stack.plan("demand").read_text()))
        return {"dag_run_id": run_id, "state": "running"}

    monkeypatch.setattr(airflow, "find_run", find)
    run_id = demo._train(data)
    assert dropped == [("demand_train", run_id, "a plan")]
    assert [path.read_bytes() for path in stack.bronze("demand").iterdir()] == [data.read_bytes()]


def test_dropped_file_that_starts_nothing_is_told(airflow, demo, data, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_runs, "_DROP_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"has started no training run within 0.1 s.*attrition_arrivals"):
        demo._runs.drop(data, tmp_path / "bronze")
    with pytest.raises(RunError, match=r"would start nothing.*\.csv or \.parquet"):
        demo._runs.drop(data.rename(data.with_suffix(".txt")), tmp_path / "bronze")


def test_question_in_the_terminal_begins_with_the_sentence_of_the_gate(airflow, demo, data, capsys):
    mine = demo._runs.train(data)
    registers(airflow, mine, "2", "release-1")
    demo._tested = True
    demo._answer(mine, "release-1")
    assert SENTENCE in " ".join(capsys.readouterr().out.split())
    assert airflow.answers == [(RELEASE, "release-1", AWAIT_APPROVAL, "Approve", "answered by APPROVE=yes")]
