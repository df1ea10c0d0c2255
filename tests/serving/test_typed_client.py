"""A typed Python client, made from the OpenAPI document (``make test-client``)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import blocks, run
from tests.support.serving_processes import KEY, Server

pytestmark = pytest.mark.client

REFUSED = """
import json
import os
from scoring_client import AuthenticatedClient
from scoring_client.api.scoring import predict
from scoring_client.models import Problem, Record
from scoring_client.types import UNSET

def ask(key, record):
    client = AuthenticatedClient(os.environ["URL"], token=key, prefix="", auth_header_name="X-API-Key")
    answer = predict.sync_detailed(client=client, body=[Record.from_dict(record)])
    assert isinstance(answer.parsed, Problem), answer
    assert answer.status_code == answer.parsed.status
    return answer.parsed

record = json.loads(os.environ["RECORD"])
refused = ask(os.environ["KEY"], record | {"Age": 200})
assert (refused.status, refused.errors_total) == (422, 1)
assert [(fault.record, fault.field, fault.given) for fault in refused.errors] == [(0, "Age", "200")]
assert refused.errors[0].line is UNSET and "100" in refused.errors[0].allowed
missing = ask("", record)
assert (missing.status, missing.errors) == (401, UNSET) and "X-API-Key" in missing.detail
print("refused twice")
"""


def test_client_is_made_from_the_document_and_used_as_the_page_says(server: Server, tmp_path: Path) -> None:
    document = server.request("GET", "/openapi.json").json
    environ = {
        "URL": f"http://127.0.0.1:{server.port}",
        "KEY": KEY,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    made, used = [
        (language, code) for language, code in blocks(document["info"]["description"], "sh", "python")
        if "scoring_client" in code
    ]  # fmt: skip
    assert "openapi-python-client" in made[1]
    run(*made, tmp_path, **environ)
    # What it says with the records of the page is what the server says.
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    (record,) = server.predict(example).json["records"]
    printed = run(*used, tmp_path, **environ)
    assert printed.startswith(f"{record['key']} {record['probability']} ['")
    assert "the probability" in printed
    assert run("python", REFUSED, tmp_path, RECORD=json.dumps(example[0]), **environ) == "refused twice\n"


def test_client_is_typed(server: Server, tmp_path: Path) -> None:
    """mypy knows what an answer has: a member that there is not is found before it is asked for."""
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [*generate, "--url", address, "--output-path", "scoring_client"]
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True)
    right = (
        "from scoring_client.models import Answer\ndef f(a: Answer) -> float:\n    return a.records[0].probability\n"
    )
    results = {}
    for name, program in (("right", right), ("wrong", right.replace("].probability", "].likelihood"))):
        (tmp_path / f"{name}.py").write_text(program)
        mypy = [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports", "silent", f"{name}.py"]
        results[name] = subprocess.run(mypy, cwd=tmp_path, env=environ, capture_output=True, text=True).stdout
    assert results["right"] == ""
    assert '"ScoredRecord" has no attribute "likelihood"' in results["wrong"]
