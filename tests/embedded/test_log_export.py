"""The export of scoring servers' output as ContainerLogV2 blobs."""

import json
import re

import pytest

from embedded.log_export import Exporter


@pytest.fixture
def folders(tmp_path):
    slots, exports = tmp_path / "slots", tmp_path / "exports"
    (slots / "attrition" / "production" / "output").mkdir(parents=True)
    return slots, exports


def write(slots, text, name="scoring-production-stable-1-1.stdout.log"):
    with (slots / "attrition" / "production" / "output" / name).open("a") as file:
        file.write(text)


def records(exports):
    return [json.loads(line) for file in exports.rglob("*.json") for line in file.read_text().splitlines()]


def exporter(folders, live=("scoring-production-stable-1-1",), namespace=lambda name, target: f"{name}-{target}"):
    return Exporter(*folders, live_names=lambda: set(live), namespace=namespace)


def test_record_has_the_columns_and_the_path_of_the_real_export(folders):
    slots, exports = folders
    write(slots, '{"type": "InputData", "level": "info"}\n')
    assert exporter(folders).export() == 1
    (record,) = records(exports)
    assert record["LogMessage"] == {"type": "InputData", "level": "info"}
    assert record["PodNamespace"] == "attrition-production"
    assert record["ContainerName"] == "scoring"
    assert (record["LogSource"], record["LogLevel"], record["Type"]) == ("stdout", "INFO", "ContainerLogV2")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", record["TimeGenerated"])
    (path,) = exports.rglob("*.json")
    pattern = (
        r"am-containerlogv2/WorkspaceResourceId=/subscriptions/.+/y=\d{4}/m=\d\d/d=\d\d/h=\d\d/m=\d[05]/PT05M\.json"
    )
    assert re.fullmatch(pattern, str(path.relative_to(exports)))


@pytest.mark.parametrize("line", ["plain text", '"a text"', "[1]", '{"half": '])
def test_line_that_is_no_json_object_stays_text(folders, line):
    slots, exports = folders
    write(slots, line + "\n")
    exporter(folders).export()
    assert records(exports)[0]["LogMessage"] == line


def test_line_waits_until_it_is_known_whose_it_is(folders):
    write(folders[0], "one\n")
    assert exporter(folders, namespace=lambda name, target: None).export() == 0
    assert exporter(folders, live=()).export() == 1
    assert records(folders[1])[0]["PodNamespace"] == "attrition-production"


def test_unfinished_line_waits_for_its_end(folders):
    slots, exports = folders
    write(slots, '{"a": 1}\n{"b"')
    running = exporter(folders)
    assert running.export() == 1
    write(slots, ": 2}\n")
    assert running.export() == 1
    assert [record["LogMessage"] for record in records(exports)] == [{"a": 1}, {"b": 2}]


def test_last_line_of_an_ended_server_is_exported_without_its_end(folders):
    write(folders[0], "cut o")
    assert exporter(folders, live=()).export() == 1


def test_line_over_16_kib_is_split_as_a_container_runtime_does(folders):
    slots, exports = folders
    write(slots, "x" * 40_000 + "\n")
    exporter(folders).export()
    assert [len(record["LogMessage"]) for record in records(exports)] == [16384, 16384, 7232]


def test_next_exporter_goes_on_where_the_last_one_was(folders):
    slots, exports = folders
    write(slots, "one\n")
    exporter(folders).export()
    write(slots, "two\n")
    assert exporter(folders).export() == 1
    assert [record["LogMessage"] for record in records(exports)] == ["one", "two"]


@pytest.mark.parametrize("written", ["nothing", "half", "all"])
def test_batch_that_was_under_way_when_the_exporter_was_killed_is_there_once(folders, written):
    """Rebuild what a kill leaves: the note of the batch, and none, a part or all of it in the blob."""
    slots, exports = folders
    write(slots, "one\n")
    exporter(folders).export()
    state_file = slots / "export.json"
    before = json.loads(state_file.read_text())
    (blob,) = exports.rglob("*.json")
    size = blob.stat().st_size
    write(slots, "two\n")
    exporter(folders).export()
    source = "attrition/production/output/scoring-production-stable-1-1.stdout.log"
    batch = blob.read_bytes()[size:]
    kept = {"nothing": 0, "half": len(batch) // 2, "all": len(batch)}[written]
    blob.write_bytes(blob.read_bytes()[: size + kept])
    relative = str(blob.relative_to(exports))
    pending = {"source": source, "end": 8, "target": relative, "size": size, "length": len(batch)}
    state_file.write_text(json.dumps(before | {"pending": pending}))
    exporter(folders).export()
    assert [record["LogMessage"] for record in records(exports)] == ["one", "two"]


def test_output_of_servers_that_ended_long_ago_is_deleted_once_exported(folders):
    slots, exports = folders
    for number in range(12):
        write(slots, f"{number}\n", f"scoring-production-stable-1-{number}.stdout.log")
    running = exporter(folders, live=())
    running.export()
    assert len(list((slots / "attrition" / "production" / "output").iterdir())) == 8
    running.export()
    assert len(records(exports)) == 12
