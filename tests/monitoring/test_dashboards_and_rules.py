"""Prometheus rules, the Grafana dashboard and the Azure files: each names only what the server really tells."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb_kql
import pytest
import yaml

from monitoring import render
from serving.metrics import MANY_RECORDS, Metrics
from serving.scoring.contract import Contract, Field, OutlierRule
from serving.settings import Release
from tests.support.rendered_for import MADE_UP, USE_CASES

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "monitoring" / "prometheus"
DASHBOARD = json.loads((ROOT / "monitoring" / "grafana" / "scoring.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
LISTED = [rule for group in RULES["groups"] for rule in group["rules"]]


def metrics():
    """What /metrics says after a good and a refused request, by the server's own code."""
    fields = tuple(
        Field(name=name, kind=kind, description="", example=1, categories=categories, drift=True)
        for name, kind, categories in (("Age", "number", ()), ("Gender", "category", ("Female", "Male")))
    )
    contract = Contract(
        contract_version=2,
        name="m",
        title="t",
        description="",
        fields=fields,
        outliers=OutlierRule(1, 1.0, 0.0),
        reference_rows=1,
    )
    metrics = Metrics(contract, Release(model_name="m"), rows=1)
    metrics.answered("predict", 200, 0.01)
    metrics.answered("predict", 503, 0.01)
    metrics.scored(MANY_RECORDS, 0, [1], [0.5, 0.5])
    return [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]


def metric_names():
    return {re.split(r"[ {]", line)[0] for line in metrics()}


def named(expression):
    """Metric names within a PromQL expression."""
    return set(re.findall(r"\bscoring_\w+", expression))


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools("promtool")
def test_rules_pass_prometheus_own_check():
    promtool("check", "rules", "rules.yaml")


@pytest.mark.tools("promtool")
def test_alerts_fire_on_sample_series_and_stay_quiet_on_good_ones():
    promtool("test", "rules", "rules_test.yaml")


@pytest.mark.tools("promtool")
def test_every_panel_of_the_dashboard_shows_something_of_what_the_server_says(tmp_path):
    """``count`` is 0 rows, and not 1, where an expression names a label or a value that no series has."""
    series = []
    for line in metrics():
        name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
        labels = ",".join(filter(None, [labels, 'namespace="any-production"']))
        series.append({"series": f"{name}{{{labels}}}", "values": "0+1x400"})
    plain = [
        expr.replace("$__rate_interval", "5m").replace("$__range", "6h").replace("$namespace", "any-.*")
        for expr in EXPRESSIONS
    ]
    shown = [
        {"expr": f"count({expr}) > bool 0", "eval_time": "390m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expr in plain
    ]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": shown}
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"tests": [case]}))
    promtool("test", "rules", str(tmp_path / "panels.yaml"))


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(rule["expr"] for rule in LISTED)])
def test_expression_names_only_metrics_that_the_server_has(expression):
    assert named(expression) <= metric_names()


def test_every_alert_has_a_tested_case_and_a_runbook_that_is_there():
    cases = (PROMETHEUS / "rules_test.yaml").read_text()
    headings = anchors(ROOT / "docs" / "operate.md")
    for rule in LISTED:
        if "alert" in rule:
            assert f"alertname: {rule['alert']}" in cases
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["runbook"].removeprefix("docs/operate.md#") in headings, rule["alert"]
    for alert in render.ALERTS:
        assert alert.runbook in headings, alert.name


def anchors(page):
    """Anchors of a Markdown page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_dashboard_has_what_grafana_needs_of_each_panel():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "namespace"}
    taken = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_azure_and_the_dashboard_have_the_limits_of_prometheus_rules():
    """Each stood in two files, and in a third one as a colour."""
    narrowed = {alert.name: alert.only for alert in render.ALERTS}
    steps = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in DASHBOARD["panels"]
        if panel["title"] in ("Failed", "p95 latency")
    }
    for rule, alert, said, panel in (
        ("ScoringFailing", "many-failures", "FailedShare > {:g}", "Failed"),
        ("ScoringSlow", "slow-answers", "P95 > {:g}", "p95 latency"),
        ("ScoringManyOutliers", "many-outliers", "OutlierRate > {:g}", ""),
    ):
        limit = float(render.limits(rule)[0])
        assert narrowed[alert].endswith(said.format(1000 * limit if rule == "ScoringSlow" else limit))
        assert steps.get(panel, limit) == limit
    assert f"Records > {render.limits('ScoringManyOutliers')[1]} " in narrowed["many-outliers"]
    assert len(steps) == 2


each_use_case = pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)


@each_use_case
@pytest.mark.parametrize("alert", render.ALERTS, ids=lambda alert: alert.name)
def test_azure_alert_is_a_valid_query_with_its_limit(use_case, alert):
    resources = render.template(use_case)["resources"]
    rule = next(resource for resource in resources if resource["name"] == f"{use_case.slug}-{alert.name}")
    text = rule["properties"]["criteria"]["allOf"][0]["query"]
    assert duckdb_kql.parse(text).ok
    columns = ["TimeGenerated", "LogMessage", "LogSource", "PodNamespace"]
    assert duckdb_kql.to_sql(text, schema={"ContainerLogV2": columns})
    assert text.rstrip().rpartition("\n")[2].startswith("| where")


@each_use_case
def test_workbook_in_the_template_is_the_workbook(use_case):
    workbook = render.workbook(use_case)
    book = render.template(use_case)["resources"][0]["properties"]["serializedData"]
    assert json.loads(book) == workbook
    assert {item["type"] for item in workbook["items"]} == {1, 3}


def test_two_use_cases_have_no_resource_of_one_name():
    first, second = (
        {resource["name"] for resource in render.template(use_case)["resources"]} for use_case in USE_CASES
    )
    assert first.isdisjoint(second)


def test_nothing_of_another_use_case_and_no_placeholder_is_in_what_is_rendered():
    for name, text in render.rendered(MADE_UP).items():
        assert "attrition" not in text.lower(), name
        assert not re.search(r"\{(service_name|production)\}", text), name


def test_prometheus_rules_and_dashboard_name_no_use_case():
    for file in (PROMETHEUS / "rules.yaml", ROOT / "monitoring" / "grafana" / "scoring.json"):
        text = file.read_text().lower()
        assert [use_case.slug for use_case in USE_CASES if use_case.slug in text] == []


def run_render(*arguments, **variables):
    command = [sys.executable, "-m", "monitoring.render", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_render_writes_the_files_of_a_use_case_and_prints_them(tmp_path):
    done = run_render("attrition", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    expected = {tmp_path / "attrition" / name: text for name, text in render.rendered(USE_CASES[0]).items()}
    assert {path: path.read_text() for path in tmp_path.rglob("*.*")} == expected
    assert sorted(done.stdout.splitlines()) == sorted(map(str, expected))


def test_render_of_a_use_case_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    done = run_render("nothing", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "no use case 'nothing'" in done.stderr
    assert "attrition" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_queries_look_into_the_namespace_that_the_settings_name(tmp_path):
    file = tmp_path / "settings.toml"
    urls = "environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\n"
    file.write_text(f"{urls}[use_cases.attrition.production]\nnamespace = 'hr-models'\n")
    done = run_render("attrition", "--out", str(tmp_path), LIFECYCLE_SETTINGS=str(file))
    assert done.returncode == 0, done.stderr
    queries = {path.name: path.read_text() for path in (tmp_path / "attrition" / "kql").iterdir()}
    assert '"hr-models"' in queries["silence.kql"]
    assert [name for name, text in queries.items() if "attrition-production" in text] == []


def test_render_without_settings_takes_the_namespaces_of_the_definition(tmp_path):
    done = run_render("attrition", "--out", str(tmp_path), LIFECYCLE_SETTINGS="")
    assert done.returncode == 0, done.stderr
    assert '"attrition-production"' in (tmp_path / "attrition" / "kql" / "silence.kql").read_text()


@pytest.mark.parametrize(("given", "told"), [([], []), (["USE_CASE=churn"], ["churn"])], ids=["all", "one"])
def test_make_monitoring_renders_every_use_case_unless_one_is_named(given, told):
    """The Makefile's own default made it render one alone, and a second use case had no alerts."""
    kept = {name: value for name, value in os.environ.items() if name not in ("USE_CASE", "MAKEFLAGS", "MFLAGS")}
    asked = ["make", "--no-print-directory", "--dry-run", "monitoring", *given]
    lines = subprocess.run(asked, cwd=ROOT, env=kept, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[-1].split()[1:] == ["-m", "monitoring.render", *told]
