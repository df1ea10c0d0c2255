"""Render the dashboards and alerts of Azure Monitor for use cases.

``python -m monitoring.render [USE_CASE ...] [--out FOLDER]`` writes for each use case, or for all, a folder with
``monitoring.json``, an ARM template with the workbook and the alert rules; ``workbook.json``, for a workbook's advanced
editor; and ``kql/``, the queries for the portal. Namespaces are those of the settings file that ``LIFECYCLE_SETTINGS``
names; without one, those that follow from the definition. Prometheus' rules and the Grafana dashboard serve every use
case as they are.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lifecycle import settings
from serving.scoring.contract import RELEASE_CLIENT
from training.use_case import UseCase, UseCaseError, load, names

HERE = Path(__file__).resolve().parent
QUERIES = HERE / "kql"
OUT = HERE / "rendered"
RUNBOOKS = "docs/operate.md"
RULES = HERE / "prometheus" / "rules.yaml"
"""Where the limits stand that both systems alert at."""


def limits(alert: str) -> list[str]:
    """The figures that an alert of Prometheus compares with, in the order of its expression."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (expression,) = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    return re.findall(r" > ([0-9.]+)", expression)


(_FAILED,) = limits("ScoringFailing")
(_SLOW,) = limits("ScoringSlow")  # seconds
_OUTLIERS, _RECORDS = limits("ScoringManyOutliers")


class Alert(NamedTuple):
    """One rule: it fires where the query, narrowed by ``only``, has a row."""

    name: str
    query: str
    only: str
    """What is added to the query: the limit, and the latest period alone."""
    severity: int
    """0 critical to 4 verbose."""
    every: str
    window: str
    runbook: str


ALERTS = (
    Alert("no-inference-logs", "silence", "", 1, "PT1H", "P1D", "no-inference-logs"),
    Alert("many-failures", "requests", f"| where Time > ago(15m) and Requests >= 20 and FailedShare > {_FAILED}",
          1, "PT5M", "PT15M", "production-fails-or-is-slow"),
    Alert("slow-answers", "requests",
          f"| where Time > ago(15m) and Requests >= 20 and P95 > {1000 * float(_SLOW):g}",
          2, "PT5M", "PT15M", "production-fails-or-is-slow"),
    Alert("many-outliers", "records",
          f"| where Day >= startofday(ago(1d)) and Records > {_RECORDS} and OutlierRate > {_OUTLIERS}",
          2, "P1D", "P1D", "drift-alarm"),
    Alert("features-drift", "drifted_features",
          "| where Day >= startofday(ago(1d)) and Requests >= 5 and Share > 0.5", 2, "P1D", "P1D", "drift-alarm"),
    Alert("unreadable-lines", "unreadable",
          f"| where Day >= startofday(ago(1d)) and UnreadableShare > {settings.Retraining().quarantine_share}",
          2, "P1D", "P1D", "quarantine"),
)  # fmt: skip

CHARTS = (
    ("Requests, failures and latency", "requests", "timechart"),
    ("Records, outliers and predictions by day and version", "records", "table"),
    ("Share of the larger requests in which a feature drifted", "drifted_features", "table"),
    ("Drift magnitude by feature, one row for each request", "drift_magnitude", "table"),
    ("Inputs without an output", "unanswered", "table"),
    ("Lines that the nightly run cannot read", "unreadable", "timechart"),
)


def query(use_case: UseCase, name: str) -> str:
    """The text of a query for one use case."""
    text = (QUERIES / f"{name}.kql").read_text().strip()
    values = {
        "service_name": use_case.title,
        "production": _production(use_case),
        "release_client": RELEASE_CLIENT,
    }
    for placeholder, value in values.items():
        # Within quotes in KQL, which escapes as JSON does.
        text = text.replace(f"{{{placeholder}}}", json.dumps(value, ensure_ascii=False)[1:-1])
    return text


def _production(use_case: UseCase) -> str:
    """The namespace of production's pods."""
    if not os.environ.get(settings.SETTINGS_VARIABLE):
        return use_case.namespace("production")
    return settings.load().of(use_case).production.namespace


def alert_query(use_case: UseCase, alert: Alert) -> str:
    """The query of an alert with its limit."""
    return "\n".join(filter(None, (query(use_case, alert.query), alert.only)))


def workbook(use_case: UseCase) -> dict[str, Any]:
    """The workbook, as its advanced editor shows it."""
    about = (
        f"## {_heading(use_case)} scoring\n"
        "The scoring server's log lines (ContainerLogV2). Verdicts: Airflow, *Releases*."
    )
    items: list[dict[str, Any]] = [{"type": 1, "content": {"json": about}, "name": "about"}]
    items += [
        {
            "type": 3,
            "content": {
                "version": "KqlItem/1.0",
                "query": query(use_case, name),
                "size": 0,
                "title": title,
                "queryType": 0,
                "resourceType": "microsoft.operationalinsights/workspaces",
                "visualization": chart,
            },
            "name": name,
        }
        for title, name, chart in CHARTS
    ]
    return {
        "version": "Notebook/1.0",
        "items": items,
        "fallbackResourceIds": [],
        "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
    }


def _heading(use_case: UseCase) -> str:
    """What people call the use case: ``customer_churn`` is ``Customer churn``."""
    return use_case.name.replace("_", " ").capitalize()


def _rule(use_case: UseCase, alert: Alert) -> dict[str, Any]:
    return {
        "type": "Microsoft.Insights/scheduledQueryRules",
        "apiVersion": "2023-12-01",
        "name": f"{use_case.slug}-{alert.name}",
        "location": "[parameters('location')]",
        "properties": {
            "displayName": f"{_heading(use_case)}: {alert.name.replace('-', ' ')}",
            "description": f"Runbook: {RUNBOOKS}#{alert.runbook}",
            "enabled": True,
            "severity": alert.severity,
            "scopes": ["[parameters('workspaceId')]"],
            "evaluationFrequency": alert.every,
            "windowSize": alert.window,
            # Queries name their own period, which may be longer than the window.
            "overrideQueryTimeRange": "P2D",
            "autoMitigate": True,
            "criteria": {
                "allOf": [
                    {
                        "query": alert_query(use_case, alert),
                        "timeAggregation": "Count",
                        "operator": "GreaterThan",
                        "threshold": 0,
                        "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
                    }
                ]
            },
            "actions": {"actionGroups": ["[parameters('actionGroupId')]"]},
        },
    }


def template(use_case: UseCase) -> dict[str, Any]:
    """The ARM template, for ``az deployment group create --template-file``."""
    book = {
        "type": "Microsoft.Insights/workbooks",
        "apiVersion": "2023-06-01",
        "name": f"[guid(parameters('workspaceId'), '{use_case.image}')]",
        "location": "[parameters('location')]",
        "kind": "shared",
        "properties": {
            "displayName": f"{_heading(use_case)} scoring",
            "category": "workbook",
            "sourceId": "[parameters('workspaceId')]",
            "version": "1.0",
            "serializedData": json.dumps(workbook(use_case)),
        },
    }
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "workspaceId": {
                "type": "string",
                "metadata": {"description": "Resource id of the Log Analytics workspace"},
            },
            "actionGroupId": {"type": "string", "metadata": {"description": "Resource id of whom alerts go to"}},
            "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
        },
        "resources": [book, *(_rule(use_case, alert) for alert in ALERTS)],
    }


def rendered(use_case: UseCase) -> dict[str, str]:
    """Every file that this makes for a use case, with its text."""
    documents = {"workbook.json": workbook(use_case), "monitoring.json": template(use_case)}
    return {
        **{name: json.dumps(content, indent=2) + "\n" for name, content in documents.items()},
        **{f"kql/{path.name}": query(use_case, path.stem) + "\n" for path in sorted(QUERIES.glob("*.kql"))},
    }


def main(arguments: list[str]) -> None:
    """Write the files of the named use cases, or of all that have a server, and print where."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.render", description="Render dashboards and alerts.")
    parser.add_argument("use_cases", nargs="*", metavar="USE_CASE", help="all, where none is named")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for a folder of each use case")
    given = parser.parse_args(arguments)
    try:
        made = {name: rendered(load(name)) for name in given.use_cases or names() if load(name).online}
    except (UseCaseError, settings.SettingsError) as error:
        raise SystemExit(str(error)) from None
    for use_case, files in made.items():
        for name, text in files.items():
            file = given.out / use_case / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
