"""Put the queries of ``monitoring/kql`` into what Azure Monitor is deployed from.

``python monitoring/azure/render.py`` writes ``workbook.json``, for a workbook's advanced editor, and
``monitoring.json``, an ARM template with the workbook and the alert rules. Both are checked in; a test fails
where they are stale.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
QUERIES = HERE.parent / "kql"
RUNBOOKS = "docs/operate.md"


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
    Alert("many-failures", "requests", "| where Time > ago(15m) and Requests >= 20 and FailedShare > 0.01",
          1, "PT5M", "PT15M", "production-fails-or-is-slow"),
    Alert("slow-answers", "requests", "| where Time > ago(15m) and Requests >= 20 and P95 > 250",
          2, "PT5M", "PT15M", "production-fails-or-is-slow"),
    Alert("many-outliers", "records", "| where Day >= startofday(ago(1d)) and Records >= 200 and OutlierRate > 0.15",
          2, "P1D", "P1D", "drift-alarm"),
    Alert("features-drift", "drifted_features",
          "| where Day >= startofday(ago(1d)) and Requests >= 5 and Share > 0.5", 2, "P1D", "P1D", "drift-alarm"),
    Alert("unreadable-lines", "unreadable", "| where Day >= startofday(ago(1d)) and UnreadableShare > 0.05",
          2, "P1D", "P1D", "quarantine"),
)  # fmt: skip

CHARTS = (
    ("Requests, failures and latency", "requests", "timechart"),
    ("Records, outliers and predictions by day and version", "records", "table"),
    ("Share of the larger requests in which a feature drifted", "drifted_features", "table"),
    ("Drift magnitude by feature, one row a request", "drift_magnitude", "table"),
    ("Inputs without an output", "unanswered", "table"),
    ("Lines that the nightly run cannot read", "unreadable", "timechart"),
)


def query(name: str) -> str:
    """The text of a query file."""
    return (QUERIES / f"{name}.kql").read_text().strip()


def workbook() -> dict[str, Any]:
    """The workbook, as its advanced editor shows it."""
    about = (
        "## Attrition scoring\nThe scoring server's log lines (ContainerLogV2). Verdicts: Airflow, *Model releases*."
    )
    items: list[dict[str, Any]] = [{"type": 1, "content": {"json": about}, "name": "about"}]
    items += [
        {
            "type": 3,
            "content": {
                "version": "KqlItem/1.0",
                "query": query(name),
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


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "type": "Microsoft.Insights/scheduledQueryRules",
        "apiVersion": "2023-12-01",
        "name": f"attrition-{alert.name}",
        "location": "[parameters('location')]",
        "properties": {
            "displayName": f"Attrition: {alert.name.replace('-', ' ')}",
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
                        "query": "\n".join(filter(None, (query(alert.query), alert.only))),
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


def template() -> dict[str, Any]:
    """The ARM template: ``az deployment group create --template-file monitoring/azure/monitoring.json``."""
    book = {
        "type": "Microsoft.Insights/workbooks",
        "apiVersion": "2023-06-01",
        "name": "[guid(parameters('workspaceId'), 'attrition-scoring')]",
        "location": "[parameters('location')]",
        "kind": "shared",
        "properties": {
            "displayName": "Attrition scoring",
            "category": "workbook",
            "sourceId": "[parameters('workspaceId')]",
            "version": "1.0",
            "serializedData": json.dumps(workbook()),
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
        "resources": [book, *map(_rule, ALERTS)],
    }


def rendered() -> dict[Path, str]:
    """Every file that this makes, with its text."""
    files = {HERE / "workbook.json": workbook(), HERE / "monitoring.json": template()}
    return {path: json.dumps(content, indent=2) + "\n" for path, content in files.items()}


if __name__ == "__main__":
    for file, text in rendered().items():
        file.write_text(text)
        sys.stdout.write(f"{file.relative_to(HERE.parents[1])}\n")
