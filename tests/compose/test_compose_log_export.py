"""The pods' output as blobs: read through the Kubernetes API (a server of the tests), written to a container."""

import pytest
from kubernetes import client

from compose.log_export import Exporter
from tests.support.machine import eventually
from tests.support.pod_logs import Container, Kubernetes, records
from training.inference_log.azure_export import is_export


@pytest.fixture
def export(cluster):
    configuration = client.Configuration(host=f"http://127.0.0.1:{cluster.server_port}")
    api = client.CoreV1Api(client.ApiClient(configuration))
    container = Container()
    exporter = Exporter(container, {"some-staging": api, "some-production": api})
    exporter.look_for_pods()
    return exporter, container


def exported(export, count):
    exporter, container = export

    def written():
        exporter.write()
        return len(records(container)) >= count

    assert eventually(written)
    return records(container)


def test_lines_of_a_pod_become_records_in_the_blob_of_their_five_minutes(export):
    found = exported(export, 3)
    assert [one["LogMessage"] for one in found] == [
        {"type": "InputData", "level": "info"},
        "plain WARNING text",
        '{"half',
    ]
    assert [one["LogLevel"] for one in found] == ["INFO", "WARNING", "UNKNOWN"]
    assert [one["TimeGenerated"] for one in found] == ["2026-11-02T09:04:59.9999999Z"] + 2 * [
        "2026-11-02T09:05:00.0000000Z"
    ]
    origin = {key: found[0][key] for key in ("Computer", "ContainerId", "PodName", "PodNamespace", "LogSource")}
    assert list(origin.values()) == ["node-1", "c0ffee", "scoring-1", "some-production", "stdout"]
    names = sorted(export[1].blobs)
    assert all(is_export(name) for name in names)
    assert [name.partition("/y=")[2] for name in names] == [
        "2026/m=11/d=02/h=09/m=00/PT05M.json",
        "2026/m=11/d=02/h=09/m=05/PT05M.json",
    ]


def test_stream_that_is_read_again_adds_what_is_new_and_loses_nothing(export, cluster):
    exported(export, 3)
    cluster.lines.append(b"2026-11-02T09:05:01.000000000Z new")
    found = exported(export, 4)
    assert {"new", '{"half', "plain WARNING text"} <= {one["LogMessage"] for one in found[1:]}
    assert [one["LogMessage"] for one in found].count({"type": "InputData", "level": "info"}) == 1


def test_pod_whose_log_is_refused_ends_the_exporter(export, cluster):
    exported(export, 3)
    cluster.RequestHandlerClass = type(
        "Refusing",
        (Kubernetes,),
        {"do_GET": lambda self: self.answer(500, b"{}") if "log" in self.path else Kubernetes.do_GET(self)},
    )

    def failed():
        try:
            export[0].look_for_pods()
        except client.ApiException as error:
            return error.status == 500
        return False

    assert eventually(failed)
