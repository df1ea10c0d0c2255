"""Calls to copy, in the description of the API: by curl, by Python, and by a client made from this document.

Each is folded, so that the form to try a call is seen beneath them."""

import pprint
import shlex

import msgspec

from serving.files import csv_table
from serving.media import CSV, JSON
from serving.scoring.contract import Contract
from serving.settings import Settings

_INTRODUCTION = """## Examples

Set `URL` to the address of this server{key}. Each line opens."""

_SHELL = """<details><summary>curl: records as JSON, and a CSV file</summary>

Records as JSON:

```sh
curl -sS --fail-with-body "$URL/predict?{query}"{header} -H "Content-Type: {json}" -d {records}
```

A CSV file in, a CSV file out:

```sh
cat >records.csv <<'END'
{table}END
curl -sS --fail-with-body "$URL/predict?{query}"{header} -H "Content-Type: {csv}" -H "Accept: {csv}" \\
  --data-binary @records.csv -o answers.csv
```

</details>"""

_PYTHON = """<details><summary>Python</summary>

```python
import os

import requests

records = {records}
answer = requests.post(
    f"{{os.environ['URL']}}/predict?{query}", json=records, headers={headers}, timeout=30
)
if not answer.ok:
    raise SystemExit(answer.text)
for record in answer.json()["records"]:
    print(record.get("key"), record["probability"], [reason["text"] for reason in record.get("reasons", [])])
```

</details>"""

_TYPED = """<details><summary>A typed Python client, which openapi-python-client makes from this document</summary>

```sh
openapi-python-client generate --url "$URL/openapi.json" --meta none --output-path scoring_client
```

```python
import os

from scoring_client import {client}
from scoring_client.api.scoring import predict
from scoring_client.models import Answer, Problem, Record

records = {records}
client = {client}({arguments})
answer = predict.sync(client=client, body=[Record.from_dict(record) for record in records]{explain})
if isinstance(answer, Problem):
    raise SystemExit(f"{{answer.status}}: {{answer.detail}}")
assert isinstance(answer, Answer)
for record in answer.records:
    print(record.key, record.probability, [reason.text for reason in record.reasons or []])
```

</details>"""


def examples(contract: Contract, settings: Settings, *, gives_reasons: bool) -> str:
    """The examples in Markdown. They work as they stand, with ``URL`` and ``KEY`` in the environment."""
    records = [{field.name: field.example for field in contract.fields}]
    header, headers, key = {
        "keys": (' -H "X-API-Key: $KEY"', """{"X-API-Key": os.environ["KEY"]}""", ", and `KEY` to your API key"),
        "entra": (
            ' -H "Authorization: Bearer $KEY"',
            """{"Authorization": f"Bearer {os.environ['KEY']}"}""",
            ", and `KEY` to an access token",
        ),
        "off": ("", "{}", ""),
    }[settings.auth]
    in_header = """, token=os.environ["KEY"]"""
    if settings.auth == "keys":
        in_header += """, prefix="", auth_header_name="X-API-Key\""""
    query = "explain=true&drift=false" if gives_reasons else "drift=false"
    literal = pprint.pformat(records, width=100, compact=True, sort_dicts=False)
    parts = (
        _INTRODUCTION.format(key=key),
        _SHELL.format(
            query=query,
            header=header,
            json=JSON,
            csv=CSV,
            records=shlex.quote(msgspec.json.encode(records).decode()),
            table=csv_table(records).replace("\r\n", "\n"),
        ),
        _PYTHON.format(query=query, headers=headers, records=literal),
        _TYPED.format(
            client="Client" if settings.auth == "off" else "AuthenticatedClient",
            arguments='base_url=os.environ["URL"]' + ("" if settings.auth == "off" else in_header),
            explain=", explain=True" if gives_reasons else "",
            records=literal,
        ),
    )
    return "\n\n".join(parts)
