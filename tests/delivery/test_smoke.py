"""``make azure-smoke``: every step with stand-ins, what differs, and that nothing is left whatever happens."""

import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from delivery.smoke import bill, local
from delivery.smoke.__main__ import say
from delivery.smoke.cloud import APPROVER, Given
from delivery.smoke.compare import differences
from delivery.smoke.programs import Programs
from delivery.smoke.run import Smoke
from delivery.smoke.state import Home, SmokeError
from delivery.smoke.walk import Place, Ran, Record, figures
from embedded.airflow_client import Airflow
from infrastructure.checks import configuration
from tests.support.airflow_double import BODY, AirflowDouble, serving
from tests.support.runbooks import misfits
from training.use_case import load

STEPS = ["embedded results", "apply", "outputs", "secrets", "clusters", "data", "airflow", "walk", "compare"]


class Setting:
    """A smoke run in a folder, with stand-ins on PATH and a double in the place of both Airflows."""

    def __init__(self, folder: Path, double: AirflowDouble) -> None:
        self.folder = folder
        self.double = double
        self.said: list[str] = []
        self.airflow = Airflow(double.url, "admin", "secret", patience=1)
        for name in ("mine.tfvars", "mine.tfbackend", "key.json", "rows.csv"):
            (folder / name).write_text("content\n")

    def smoke(self, hours: float = 4.0) -> Smoke:
        """A call of it; another one of the same folder goes on."""
        home = Home(self.folder / "home")
        state = home.begin(hours)
        port = int(self.double.url.rpartition(":")[2])
        path = f"{local.write_stand_ins(self.folder / 'stand-ins', port)}{os.pathsep}/usr/bin:/bin"
        environment = {**os.environ, "PATH": path}
        given = Given(
            variables=self.folder / "mine.tfvars", backend=self.folder / "mine.tfbackend",
            approval_key=self.folder / "key.json", repository="https://example.com/x.git",
            data=self.folder / "rows.csv",
        )  # fmt: skip
        programs = Programs(self.folder / "programs.log", state.left, environment)
        stack = SimpleNamespace(credentials=SimpleNamespace(airflow_user="admin", airflow_password="secret"))
        self.cloud = local.DryCloud(given, load("attrition"), home, programs, stack=stack, say=self.said.append)
        self.cloud._poll_seconds = 0.01
        self.cloud.check()
        return Smoke(
            home=home, state=state, cloud=self.cloud, use_case=load("attrition"), commit="c" * 40,
            embedded=partial(_here, self), say=self.said.append,
        )  # fmt: skip

    @property
    def made(self) -> bool:
        """Whether there is an environment that costs money."""
        return (self.folder / "stand-ins" / "made").exists()

    @property
    def calls(self) -> list[str]:
        return (self.folder / "stand-ins" / "calls").read_text().splitlines()

    def report(self) -> dict:
        return json.loads((self.folder / "home" / "report.json").read_text())


@contextmanager
def _here(setting: Setting):
    yield Place(
        where="on this machine", airflow=setting.airflow, approver=setting.airflow,
        data=str(setting.folder / "rows.csv"), export_seconds=0, poll_seconds=0.01,
    )  # fmt: skip


@pytest.fixture
def stack(monkeypatch):
    """What becomes of the embedded stack, in place of one."""
    told = []

    @contextmanager
    def running(stack, say):
        told.append("up")
        yield
        told.append("down")

    monkeypatch.setattr(local, "running", running)
    return told


@pytest.fixture
def setting(tmp_path, stack):
    with serving(AirflowDouble()) as double:
        yield Setting(tmp_path, double)


def test_every_step_is_done_and_nothing_is_left(setting):
    assert setting.smoke().run() == 0, setting.said
    report = setting.report()
    assert list(report["state"]["done"]) == STEPS
    assert (report["passed"], report["differences"], report["state"]["taken_down"]) == (True, [], True)
    steps = ["train", "release", "score", "rollback", "night"]
    assert list(report["here"]["runs"]) == ["train before", "release before", *steps]
    assert list(report["there"]["runs"]) == steps, "the double is one Airflow, which has a way back by then"
    assert report["there"]["runs"]["release"]["facts"]["figures"] == {"ROC AUC": 0.85}
    assert setting.double.answers == ["Approve"] * 3
    assert not setting.made
    calls = "\n".join(setting.calls)
    assert f'-var=environment=small -var=approvers=["{APPROVER}"]' in calls
    assert setting.calls[-1].startswith("tofu -chdir=infrastructure destroy -input=false -auto-approve -var-file=")
    for part in ("az keyvault secret set --vault-name dry-small-keys", "helm upgrade airflow", "aks get-credentials"):
        assert part in calls
    assert len([call for call in setting.calls if call.endswith("apply --kustomize monitoring/collector ")]) == 2
    for name in ("tofu", "kubelogin", "helm"):
        called = [call.split()[1:] for call in setting.calls if call.startswith(f"{name} ")]
        assert called, name
        assert list(misfits(name, called)) == []
    uploaded = setting.folder / "stand-ins" / "volumes" / "attrition" / "raw" / "rows.csv"
    assert uploaded.read_text() == "content\n"
    assert "passed" in (setting.folder / "home" / "report.md").read_text()


def test_stack_is_up_while_a_dry_run_takes_it_for_the_clusters_airflow(setting, stack):
    """Whoever has no stack up has none after the first walk either."""
    setting.smoke()
    dict(setting.smoke().steps)["outputs"]()
    with setting.cloud.place():
        assert stack == ["up"]
    assert stack == ["up", "down"]


def test_both_sides_have_runs_of_their_own_and_what_differs_between_them_is_told(setting):
    """A dry run has one Airflow for both sides: it must not compare a run with itself."""
    worse = BODY.replace("0.850", "0.800")
    setting.double.other = {
        "__cloud__": {"gather_evidence": {"body": worse}, "announce_scores": {"rows": 9, "rejected": 2}}
    }
    assert setting.smoke().run() == 1
    report = setting.report()
    assert [(one["run"], one["what"], one["here"], one["there"]) for one in report["differences"]] == [
        ("release", "figures, ROC AUC", "0.85", "0.8"),
        ("score", "rows", "10", "9"),
        ("score", "rejected", "1", "2"),
    ]
    assert (report["passed"], report["state"]["fault"], report["state"]["taken_down"]) == (False, "", True)
    assert "| release | figures, ROC AUC | 0.85 | 0.8 |" in (setting.folder / "home" / "report.md").read_text()
    trained = [run_id for dag_id, run_id in setting.double.runs if dag_id == "attrition_train"]
    assert len({run_id.partition("__train")[0] for run_id in trained}) == 2
    assert not setting.made


def test_passwords_are_in_no_argument_and_gone_at_the_end(setting):
    kept = {}
    smoke = setting.smoke()
    home = Home(setting.folder / "home")
    for name in ("database-password", APPROVER, "jwt-secret"):
        kept[name] = home.secret(name)
    assert oct((home.folder / f"{APPROVER}.secret").stat().st_mode & 0o777) == "0o600"
    assert smoke.run() == 0
    written = "\n".join(setting.calls) + (setting.folder / "programs.log").read_text()
    assert [name for name, secret in kept.items() if secret in written] == []
    assert [*home.folder.glob("*.secret"), *home.folder.glob("*.kubeconfig")] == []


@pytest.mark.parametrize("failing", ["score", "train"])
def test_failed_run_is_told_with_its_cause_and_everything_is_taken_down(setting, failing, monkeypatch):
    smoke = setting.smoke()
    smoke.steps[0] = ("embedded results", lambda: None)
    setting.double.failing = (failing,)
    assert smoke.run() == 1
    report = setting.report()
    assert f"attrition_{failing}." in report["state"]["fault"]
    assert "DataError: the table has no rows" in report["state"]["fault"]
    assert (report["differences"], report["state"]["taken_down"]) == (None, True)
    assert not setting.made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_run_takes_everything_down(setting, number):
    smoke = setting.smoke()
    smoke.steps[2] = ("outputs", lambda: os.kill(os.getpid(), number) or time.sleep(30))
    assert smoke.run() == 1
    assert setting.report()["state"]["fault"] == "somebody stopped it"
    assert not setting.made


def test_closed_terminal_takes_everything_down(setting, monkeypatch):
    """The signal comes, and from then on nothing can be written where it was written before."""

    class Closed:
        def write(self, text):
            raise OSError("Input/output error")

    def hang_up():
        monkeypatch.setattr(sys, "stdout", Closed())
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(30)

    smoke = setting.smoke()
    smoke._say = say
    smoke.steps[2] = ("outputs", hang_up)
    assert smoke.run() == 1
    assert not setting.made


def test_fault_of_ours_takes_everything_down_and_is_raised(setting):
    smoke = setting.smoke()
    smoke.steps[2] = ("outputs", lambda: {}["nothing"])
    with pytest.raises(KeyError):
        smoke.run()
    assert not setting.made
    assert setting.report()["state"]["taken_down"]


def killed_after(setting, step, hours=4.0):
    """As after SIGKILL: the steps up to ``step`` are done and kept, and nobody took anything down."""
    smoke = setting.smoke(hours)
    for name, one in smoke.steps:
        one()
        smoke._state.done[name] = 1.0
        smoke._home.keep(smoke._state)
        if name == step:
            return smoke._state
    raise AssertionError(step)


def test_run_that_was_killed_goes_on_and_starts_nothing_twice(setting):
    state = killed_after(setting, "airflow")
    assert setting.made
    dict(setting.smoke().steps)["walk"]()  # and killed before it was kept that this step is done
    runs = len(setting.double.runs)
    assert setting.smoke().run() == 0, setting.said
    assert Home(setting.folder / "home").read().prefix == state.prefix
    assert "apply: done by an earlier call" in setting.said
    assert len([call for call in setting.calls if " apply -input" in call]) == 1
    assert len(setting.double.runs) == runs, "the walk that is begun again has found its runs"
    assert not setting.made


def test_time_that_is_over_does_nothing_but_take_down(setting):
    state = killed_after(setting, "apply")
    state.began -= 5 * 3600
    Home(setting.folder / "home").keep(state)
    assert setting.smoke().run() == 1
    assert "hours were over" in setting.report()["state"]["fault"]
    assert not setting.made


def test_taking_down_alone_works_without_any_memory(setting):
    killed_after(setting, "apply")
    (setting.folder / "home" / "state.json").unlink()
    smoke = setting.smoke()
    smoke._state.began = 1.0
    assert smoke.finish().state.taken_down
    assert not setting.made


def test_environment_that_cannot_be_destroyed_is_told_in_report_and_exit_code(setting):
    smoke = setting.smoke()
    (setting.folder / "stand-ins" / "programs" / "tofu").write_text(
        '#!/bin/sh\n[ "$2" != destroy ] || { echo "Error: still in use" >&2; exit 1; }\n'
        f"[ $2 != output ] || cat '{setting.folder}/stand-ins/answers.json'\n"
    )
    assert smoke.run() == 1
    report = setting.report()
    assert "Error: still in use" in report["state"]["fault"]
    assert not report["state"]["taken_down"]
    assert "DOWN=yes" in (setting.folder / "home" / "report.md").read_text()
    assert Home(setting.folder / "home").begin(4.0).prefix == report["state"]["prefix"], "the next call goes on with it"


def test_missing_file_or_program_is_told_before_anything_is_made(setting, monkeypatch):
    setting.smoke()
    (setting.folder / "key.json").unlink()
    with pytest.raises(SmokeError, match=r"there is no file .*key\.json: APPROVAL_KEY names it"):
        setting.cloud.check()
    assert not setting.made


RAN = Ran(dag_id="d", state="success", tasks={"a": "success"}, facts={"figures": {"AUC": 0.85}, "rows": 10})


def record(**runs):
    return Record(where="there", runs={"train": RAN, **runs})


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (RAN, []),
        (msgspec.structs.replace(RAN, facts={**RAN.facts, "figures": {"AUC": 0.8531}}), []),
        (msgspec.structs.replace(RAN, facts={**RAN.facts, "figures": {"AUC": 0.82}}), ["figures, AUC: 0.85, 0.82"]),
        (msgspec.structs.replace(RAN, facts={**RAN.facts, "rows": 9}), ["rows: 10, 9"]),
        (msgspec.structs.replace(RAN, tasks={"a": "success", "try_image": "success"}), []),
        (msgspec.structs.replace(RAN, tasks={"a": "success", "b": "success"}), ["task b: missing, success"]),
        (msgspec.structs.replace(RAN, tasks={"a": "skipped"}), ["task a: success, skipped"]),
    ],
)
def test_what_differs_is_found_and_what_differs_by_design_is_not(there, says):
    found = differences(record(), record(train=there))
    assert [f"{one.what}: {one.here}, {one.there}" for one in found] == says


def test_run_that_one_side_lacks_differs_unless_it_only_prepared_a_way_back():
    assert [one.run for one in differences(record(), record(night=RAN))] == ["night"]
    assert differences(record(), Record(where="there", runs={"train": RAN, "train before": RAN})) == []


def test_figures_are_the_challengers_of_the_gates_first_table():
    assert figures(BODY) == {"ROC AUC": 0.85}
    assert figures("no table at all") == {}


def test_limit_names_every_meter_of_the_small_environment_and_the_hours():
    said = bill.limit(3)
    assert "at most 3 hours" in said
    assert re.search(r"nodes: 2 clusters . 2 Standard_D2s_v5", said)
    assert "API Management" not in said, "it has none"


def test_outputs_that_are_read_are_outputs_of_the_infrastructure(tmp_path):
    local.write_stand_ins(tmp_path, 1)
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert set(answers) <= set(configuration.read().root.of("output"))
