"""The table of events and assets, and what is read of a message: whatever somebody sends, in either schema."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import settings
from lifecycle.events import feeds
from lifecycle.events.assets import watched
from lifecycle.events.feeds import EventError, Feed, File
from tests.support.airflow import USE_CASE, make_settings
from tests.support.events import BRONZE, SUBJECTS, blob_created, cloud_event
from training import use_case as definitions

ATTRITION = definitions.load(USE_CASE)


def told(name, event, prefix=SUBJECTS):
    return feeds.named(name).told(feeds.parse(json.dumps(event).encode())[0], prefix)


def test_each_folder_feeds_its_own_asset(starting):
    assert [(asset.name, len(asset.watchers)) for asset in watched(ATTRITION)] == [
        ("attrition_new_data", 1),
        ("attrition_new_outcomes", 1),
    ]
    events = feeds.parse(json.dumps([blob_created("a.csv"), cloud_event("b.csv", folder="outcomes")]).encode())
    assert [feeds.takers([event]) for event in events] == [{("data", USE_CASE)}, {("outcomes", USE_CASE)}]
    assert feeds.takers(feeds.parse(json.dumps(blob_created("a.csv", container="other")).encode())) == set()


def test_another_source_is_one_line_of_the_table(starting, monkeypatch):
    image = Feed(
        "image",
        "Microsoft.ContainerRegistry.ImagePushed",
        lambda _: "new_image",
        lambda _, found: f"{found.repository}:",
    )
    monkeypatch.setattr(feeds, "FEEDS", (*feeds.FEEDS, image))
    assert [asset.name for asset in watched(ATTRITION)][-1] == "new_image"
    pushed = {
        "specversion": "1.0", "id": "e2", "type": "Microsoft.ContainerRegistry.ImagePushed",
        "time": "2026-11-02T03:04:05Z", "subject": "attrition-scoring:7", "data": {"target": {"digest": "sha256:ab"}},
    }  # fmt: skip
    (event,) = feeds.parse(json.dumps(pushed).encode())
    assert feeds.takers([event]) == {("image", USE_CASE)}
    assert image.told(event, "attrition-scoring:")["data"] == {"target": {"digest": "sha256:ab"}}


def test_events_turned_off_leave_assets_without_watchers(starting, monkeypatch):
    off = make_settings({"bronze": BRONZE, "start_on_data": ["score"]})
    monkeypatch.setattr(settings, "load", lambda: off)
    assert [(asset.name, asset.watchers) for asset in watched(ATTRITION)] == [("attrition_new_data", [])]


def test_use_case_that_starts_nothing_watches_nothing(monkeypatch):
    idle = make_settings({"bronze": BRONZE, "outcomes": "/outcomes"}, events=settings.Events(listen=True))
    monkeypatch.setattr(settings, "load", lambda: idle)
    assert watched(ATTRITION) == []


def test_both_schemas_and_the_listing_name_a_file_alike():
    by_event = told("data", blob_created("2026/rows.csv", etag='"0x8D"'))
    by_cloud_event = told("data", cloud_event("2026/rows.csv", etag="0x8D"))
    swept = File("data", "2026/rows.csv", "0x8D", "2026-11-02T03:04:06+00:00")
    keys = {msgspec.convert(found, File).key for found in (by_event, by_cloud_event)} | {swept.key}
    assert len(keys) == 1
    assert File("data", "2026/rows.csv", "0x8E", swept.written).key not in keys, "another content is another version"


@pytest.mark.parametrize(
    ("name", "api"),
    [
        ("rows.csv", "CreateFile"),
        ("_delta_log/0001.json", "PutBlob"),
        ("_tmp/rows.csv", "PutBlob"),
        (".rows.csv", "PutBlob"),
        ("~$rows.csv", "PutBlob"),
        ("rows.xlsx", "PutBlob"),
        ("../else/rows.csv", "PutBlob"),
        ("a//rows.csv", "PutBlob"),
        ("", "PutBlob"),
    ],
)
def test_what_is_no_whole_table_starts_nothing(name, api):
    assert told("data", blob_created(name, api=api)) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"7", "it holds int where an event was expected"),
        (b"[[]]", "it holds list"),
        (b'{"eventType": "x"}', "it is not an event of Event Grid"),
        (b'{"id": 1, "eventType": "x", "eventTime": "t", "data": {}}', r"Expected `str`, got `int` - at `\$.id`"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(body, reason):
    with pytest.raises(EventError, match=reason):
        feeds.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {}},
        {"data": {"eTag": ""}},
        {"data": {"eTag": "0x", "contentLength": "many"}},
        {"eventTime": "yesterday"},
        {"eventTime": "2026-11-02T03:04:05"},
    ],
)
def test_event_that_does_not_describe_its_blob_is_refused(change):
    with pytest.raises(EventError):
        told("data", {**blob_created("rows.csv"), **change})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["eTag", "contentLength", "sequencer", "api", "url"]), JSON), st.text(), st.text()
)
def test_no_event_of_the_right_type_ends_the_watcher(data, name, moment):
    """A filter that raises anything else would end the trigger, and the message would come again for ever."""
    event = {**blob_created(name), "data": data, "eventTime": moment}
    try:
        found = told("data", event)
    except EventError:
        return
    assert found is None or datetime.fromisoformat(found["written"]).astimezone(UTC)


@given(st.binary() | JSON.map(lambda found: json.dumps(found).encode()))
def test_no_message_ends_the_receiver(body):
    try:
        found = feeds.parse(body)
    except EventError:
        return
    assert all(isinstance(event.subject, str) and isinstance(event.data, dict) for event in found)
