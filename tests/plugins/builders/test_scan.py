"""Known faults of an image's packages, by hand-made advisories; and what is not released because of them."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from lifecycle.builders.scan import ScanError, _Event, _within, objection, scan
from lifecycle.evidence.known_faults import Fault, Scan

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PINS = "flask==3.1.3 \\\n    --hash=sha256:" + "ab" * 32 + "\nMsgSpec==0.22.0\n"


def advisory(
    name: str = "GHSA-aaaa", package: str = "Flask", severity: str = "HIGH", **changes: object
) -> dict[str, object]:
    events = [{"introduced": "0"}, {"fixed": "3.1.4"}]
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    rated = {"database_specific": {"severity": severity}} if severity else {}
    return {"id": name, "modified": "2026-11-20T10:00:00Z", "affected": [affected], **rated, **changes}


def copy(folder: Path, *advisories: dict[str, object]) -> str:
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(advisories):
        (folder / f"{number}.json").write_text(json.dumps(one))
    return str(folder)


def found(place: str, days: int = 7) -> Scan:
    return scan(PINS, place, days=days, now=NOW)


def test_fault_of_a_pinned_version_is_found_and_says_what_mends_it(tmp_path):
    said = found(copy(tmp_path / "osv", advisory()))
    assert said.faults == (Fault("GHSA-aaaa", "flask", "3.1.3", "HIGH", "3.1.4"),)
    assert (said.packages, said.advisories, said.not_scanned) == (2, "2026-11-20", "")
    assert "GHSA-aaaa in flask 3.1.3 (HIGH, mended in 3.1.4)" in said.sentence


def test_archive_says_the_same_as_the_folder(tmp_path):
    folder = Path(copy(tmp_path / "osv", advisory()))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "0.json", "GHSA-aaaa.json")
    assert found(str(tmp_path / "all.zip")) == found(str(folder))


@pytest.mark.parametrize(
    "other",
    [
        advisory(package="flask-login"),
        advisory(withdrawn="2026-11-21T00:00:00Z"),
        advisory(affected=[{"package": {"ecosystem": "npm", "name": "flask"}, "versions": ["3.1.3"]}]),
        advisory(affected=[{"package": {"ecosystem": "PyPI", "name": "flask"}, "versions": ["3.1.2"]}]),
    ],
)
def test_what_is_about_something_else_is_not_found(tmp_path, other):
    said = found(copy(tmp_path / "osv", other))
    assert said.faults == ()
    assert said.sentence == "Python packages: no known fault in 2, advisories of 2026-11-20."


def test_one_fault_in_two_data_bases_is_told_once_with_its_rating(tmp_path):
    place = copy(
        tmp_path / "osv",
        advisory("PYSEC-1", severity="", aliases=["CVE-1", "GHSA-aaaa"]),
        advisory("GHSA-aaaa", severity="moderate", aliases=["CVE-1"]),
    )
    assert [(fault.id, fault.severity) for fault in found(place).faults] == [("CVE-1", "MODERATE")]


@pytest.mark.parametrize(
    ("place", "says"),
    [("", "no advisories are set"), ("missing", "are not there"), ("empty", "are empty"), ("old", "6 days old, and 5")],
)
def test_image_is_not_scanned_where_there_is_no_copy_or_an_old_one(tmp_path, place, says):
    copy(tmp_path / "old", advisory(modified="2026-11-19T12:00:00Z"))
    copy(tmp_path / "empty")
    said = found(str(tmp_path / place) if place else "", days=5)
    assert says in said.not_scanned
    assert said.sentence.startswith("Python packages: not scanned (")
    assert said.short == "Packages: not scanned."
    assert objection(said, blocked_from="LOW", unscanned_blocks=False) == ""
    assert says in objection(said, blocked_from="never", unscanned_blocks=True)


@pytest.mark.parametrize("content", ["{", '{"id": 1}', "[]"])
def test_half_a_copy_does_not_pass_for_a_whole_one(tmp_path, content):
    place = Path(copy(tmp_path / "osv", advisory()))
    (place / "broken.json").write_text(content)
    with pytest.raises(ScanError, match=r"broken\.json is not an advisory"):
        found(str(place))
    (tmp_path / "all.zip").write_text("not an archive")
    with pytest.raises(ScanError, match="neither a folder nor a zip archive"):
        found(str(tmp_path / "all.zip"))


@pytest.mark.parametrize(
    ("severity", "limit", "ends"),
    [
        ("LOW", "LOW", True),
        ("MODERATE", "HIGH", False),
        ("HIGH", "HIGH", True),
        ("CRITICAL", "HIGH", True),
        ("CRITICAL", "never", False),
        ("", "CRITICAL", True),  # nobody has rated it, so somebody looks
    ],
)
def test_severity_that_ends_a_release_is_a_setting(tmp_path, severity, limit, ends):
    said = found(copy(tmp_path / "osv", advisory(severity=severity)))
    assert len(said.faults) == 1
    assert bool(objection(said, blocked_from=limit, unscanned_blocks=False)) is ends


VERSIONS = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda parts: f"{parts[0]}.{parts[1]}")


@given(ours=VERSIONS, starts=st.lists(VERSIONS, min_size=1, max_size=3, unique=True), width=st.integers(1, 3))
def test_version_is_hit_exactly_between_an_introduction_and_its_mend(ours, starts, width):
    spans = [(start, f"{start}.{width}") for start in starts]
    events = [event for start, end in spans for event in (_Event(fixed=end), _Event(introduced=start))]
    expected = any(Version(start) <= Version(ours) < Version(end) for start, end in spans)
    assert _within(ours, events) is expected
    last = [event for start, end in spans for event in (_Event(introduced=start), _Event(last_affected=start))]
    assert _within(ours, last) is (ours in starts)


def test_version_that_cannot_be_compared_counts_as_hit():
    assert _within("3.1", [_Event(introduced="0"), _Event(fixed="not a version")])
