"""Known faults of an image's Python packages, by a copy of advisories in the OSV format that the settings name.

The copy is a folder or a zip archive of one JSON document each, as osv.dev publishes them for PyPI; somebody brings
it where workers can read it, for a release asks no other company's server. Packages of the base image are not looked
at: a registry's scanner, or trivy in a pipeline, knows those. Where there is no copy, or an old one, an image is *not
scanned*, and a setting says whether that ends its release.
"""

import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lifecycle.builders.sbom import pins
from lifecycle.evidence.known_faults import RATED, Fault, Scan, Severity, counted, rank
from serving.scoring.described import described

ECOSYSTEM = "PyPI"


class ScanError(ValueError):
    """Raised for a copy of advisories that cannot be read; the message names the file."""


class _Event(msgspec.Struct, frozen=True):
    introduced: str = ""
    fixed: str = ""
    last_affected: str = ""

    @property
    def at(self) -> str:
        return self.introduced or self.fixed or self.last_affected


class _Range(msgspec.Struct, frozen=True):
    type: str
    events: list[_Event]


class _Package(msgspec.Struct, frozen=True):
    name: str = ""
    ecosystem: str = ""


class _Affected(msgspec.Struct, frozen=True):
    package: _Package = _Package()
    ranges: list[_Range] = []
    versions: list[str] = []


class _Rating(msgspec.Struct, frozen=True):
    severity: str = ""


@described
class Advisory(msgspec.Struct, frozen=True):
    """What is used of a document in the OSV format."""

    id: str
    modified: str
    withdrawn: str = ""
    aliases: list[str] = []
    affected: list[_Affected] = []
    database_specific: _Rating = _Rating()

    @property
    def severity(self) -> Severity:
        return next((word for word in RATED if word == self.database_specific.severity.upper()), "not rated")


def scan(requirements: str, place: str, *, days: int, now: datetime | None = None) -> Scan:
    """Look the pins of a requirements file up in the copy at ``place``; a copy older than ``days`` does not count.

    Raises ``ScanError`` for a copy that holds what is not an advisory: half a copy must not pass for a whole one.
    """
    if not place:
        return Scan(not_scanned="no advisories are set")
    if not Path(place).exists():
        return Scan(not_scanned=f"the advisories {place} are not there")
    newest, found = "", dict[str, list[tuple[Advisory, _Affected]]]()
    for advisory in read(Path(place)):
        newest = max(newest, advisory.modified)
        for affected in advisory.affected if not advisory.withdrawn else ():
            if affected.package.ecosystem == ECOSYSTEM:
                found.setdefault(canonicalize_name(affected.package.name), []).append((advisory, affected))
    if not newest:
        return Scan(not_scanned=f"the advisories {place} are empty")
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(newest)).days
    if age > days:
        return Scan(not_scanned=f"the newest advisory is {age} days old, and {days} are allowed")
    packages = {(canonicalize_name(name), version) for name, version, _ in pins(requirements)}
    faults = _once(_faults(packages, found))
    return Scan(packages=len(packages), advisories=newest[:10], faults=faults)


def objection(found: Scan, *, blocked_from: Severity | Literal["never"], unscanned_blocks: bool) -> str:
    """Why an image with this scan is not released; empty where it may be."""
    if found.not_scanned:
        return (
            f"its Python packages were not scanned: {found.not_scanned}. Bring a copy of the advisories to where "
            "[release] advisories names it, or set unscanned_blocks to false"
            if unscanned_blocks
            else ""
        )
    if blocked_from == "never":
        return ""
    bad = [fault for fault in found.faults if fault.rank >= rank(blocked_from)]
    if not bad:
        return ""
    return (
        f"{counted(bad)} of severity {blocked_from} or worse: {', '.join(str(fault) for fault in bad)}. "
        "Take versions without them into serving/requirements.txt (make lock), or change blocked_from of [release]"
    )


def read(place: Path) -> Iterator[Advisory]:
    """Every advisory of a folder or zip archive; raises ``ScanError`` for a file that is not one."""
    for name, content in _documents(place):
        try:
            yield msgspec.json.decode(content, type=Advisory)
        except msgspec.MsgspecError as error:
            raise ScanError(f"{place}: {name} is not an advisory in the OSV format: {error}") from error


def _documents(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        yield from ((path.name, path.read_bytes()) for path in sorted(place.rglob("*.json")))
        return
    try:
        with zipfile.ZipFile(place) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist() if name.endswith(".json"))
    except zipfile.BadZipFile as error:
        raise ScanError(f"{place} is neither a folder nor a zip archive: {error}") from error


def _faults(
    packages: Iterable[tuple[str, str]], found: dict[str, list[tuple[Advisory, _Affected]]]
) -> Iterator[tuple[Advisory, Fault]]:
    for name, version in packages:
        for advisory, affected in found.get(name, ()):
            if _hit(version, affected):
                yield advisory, Fault(advisory.id, name, version, advisory.severity, _fixed(version, affected))


def _hit(version: str, affected: _Affected) -> bool:
    if version in affected.versions:
        return True
    return any(_within(version, one.events) for one in affected.ranges if one.type in ("ECOSYSTEM", "SEMVER"))


def _within(version: str, events: list[_Event]) -> bool:
    """By the rule of the format: the last event at or before the version decides."""
    try:
        ours, ordered = Version(version), sorted(events, key=lambda event: (Version(event.at), not event.introduced))
    except InvalidVersion:
        return True  # nobody can say that it is not: a person looks
    hit = False
    for event in ordered:
        at = Version(event.at)
        if event.introduced:
            hit = hit or ours >= at
        elif event.fixed:
            hit = hit and ours < at
        else:
            hit = hit and ours <= at
    return hit


def _fixed(version: str, affected: _Affected) -> str:
    """The least version above ours that mends it."""
    fixes = [event.fixed for one in affected.ranges if one.type == "ECOSYSTEM" for event in one.events if event.fixed]
    try:
        return str(min((Version(fix) for fix in fixes if Version(fix) > Version(version)), default=""))
    except InvalidVersion:
        return ""


def _once(found: Iterable[tuple[Advisory, Fault]]) -> tuple[Fault, ...]:
    """One of each: data bases tell of the same fault by ids of their own. The rated one and the worst counts."""
    kept: dict[tuple[str, str], Fault] = {}
    for advisory, fault in found:
        names = sorted({advisory.id, *advisory.aliases}, key=lambda name: (not name.startswith("CVE-"), name))
        key = (fault.package, names[0])
        other = kept.get(key)
        if other is None or (fault.severity in RATED, fault.rank, other.id) > (
            other.severity in RATED,
            other.rank,
            fault.id,
        ):
            kept[key] = msgspec.structs.replace(fault, id=names[0])
    return tuple(sorted(kept.values(), key=lambda fault: (-fault.rank, fault.package, fault.id)))
