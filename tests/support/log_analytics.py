"""A Log Analytics workspace in memory, filled by the scoring server's own log writer and asked in KQL."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import duckdb_kql
import msgspec

from monitoring import render
from serving.inference_log import InferenceLog
from serving.scoring.contract import Contract, OutlierRule
from serving.settings import Release, Settings
from tests.support.rendered_for import MADE_UP

SPANS = {
    "TimeGenerated": "TIMESTAMP",
    "OperationId": "VARCHAR",
    "Id": "VARCHAR",
    "ParentId": "VARCHAR",
    "Name": "VARCHAR",
    "AppRoleName": "VARCHAR",
    "Success": "BOOLEAN",
    "ResultCode": "VARCHAR",
    "DurationMs": "DOUBLE",
    "Properties": "JSON",
}
"""What both tables of Application Insights have of a span."""
TABLES = {
    "ContainerLogV2": {
        "TimeGenerated": "TIMESTAMP",
        "ContainerName": "VARCHAR",
        "PodName": "VARCHAR",
        "PodNamespace": "VARCHAR",
        "LogMessage": "JSON",
        "LogSource": "VARCHAR",
    },
    "KubePodInventory": {
        "TimeGenerated": "TIMESTAMP",
        "Namespace": "VARCHAR",
        "Name": "VARCHAR",
        "PodStatus": "VARCHAR",
    },
    **{table: SPANS for table in ("AppRequests", "AppDependencies")},
}


class Workspace:
    """The tables of one Log Analytics workspace, in memory; what it is asked and told is of one use case at a time."""

    def __init__(self, use_case=MADE_UP):
        self.use_case = use_case
        self.tables = duckdb.connect()
        self.tables.execute("SET TimeZone = 'UTC'")
        for name, columns in TABLES.items():
            listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            self.tables.execute(f"CREATE TABLE {name} ({listed})")

    def log(self, line, *, age=timedelta(hours=1), source="stdout"):
        row = [
            datetime.now(UTC).replace(tzinfo=None) - age,
            "scoring",
            "scoring-1",
            self.use_case.namespace("production"),
            line,
            source,
        ]
        self.tables.execute("INSERT INTO ContainerLogV2 VALUES (?, ?, ?, ?, ?, ?)", row)

    def scored(self, request_id, result, *, age=timedelta(hours=1), version="7", times=1, client="hr", trace_id=""):
        """What the server's own writer logs of one request; ``times`` is more where the pipeline re-delivered."""
        contract = Contract(
            contract_version=2,
            name=self.use_case.model_name,
            title=self.use_case.title,
            description="",
            fields=(),
            outliers=OutlierRule(1, 1.0, 0.0),
            reference_rows=1,
        )
        release = Release(model_name=self.use_case.model_name, model_version=version)
        writer = Writer()
        log = InferenceLog(contract, release, Settings(auth="off"), writer)
        records = len(result.outliers__score)
        body = b"[%b]" % b",".join([b'{"Age":36}'] * records)
        log.write(log.lines(request_id, client, body, result, msgspec.json.encode(result), trace_id))
        for line in writer.lines * times:
            self.log(line, age=age)

    def answered(self, status, milliseconds=4.0, path="/predict", *, times=1, age=timedelta(hours=1), **more):
        """Access lines, as the server writes them to stderr."""
        line = {"type": "Access", "path": path, "status": status, "duration_ms": milliseconds, **more}
        for _ in range(times):
            self.log(json.dumps(line), source="stderr", age=age)

    def span(self, span):
        """A span, as the collector's exporter for Azure Monitor brings it to Application Insights."""
        row = [
            datetime.fromtimestamp(span.start / 1e9, UTC).replace(tzinfo=None),
            span.trace,
            span.span,
            span.parent,
            span.name,
            span.service,
            not span.failed,
            str(span.attributes.get("http.response.status_code", "")),
            (span.end - span.start) / 1e6,
            json.dumps({name: str(value) for name, value in span.attributes.items()}),
        ]
        table = "AppRequests" if span.server else "AppDependencies"
        self.tables.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def runs(self, pods):
        """Pods of production, as the cluster's inventory lists them."""
        seen = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=2)
        for number in range(pods):
            row = [seen, self.use_case.namespace("production"), f"scoring-{number}", "Running"]
            self.tables.execute("INSERT INTO KubePodInventory VALUES (?, ?, ?, ?)", row)

    def text_of(self, name):
        return render.query(self.use_case, name)

    def ask(self, name, query=None):
        # The package's own engine wants a newer DuckDB than MiniLake does; its translator wants none.
        schema = {name: list(columns) for name, columns in TABLES.items()}
        answer = self.tables.execute(str(duckdb_kql.to_sql(query or self.text_of(name), schema=schema)))
        columns = [column[0] for column in answer.description]
        return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]


class Writer:
    """In place of stdout."""

    def __init__(self):
        self.lines = []

    def write(self, lines):
        self.lines += lines.decode().splitlines()
