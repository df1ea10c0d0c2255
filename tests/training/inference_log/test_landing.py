"""Every byte of the export is copied once, whatever grows, comes back or is half written."""

import gzip
import re
from collections import Counter
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.inference_log import landing, layout
from training.inference_log.azure_export import FolderSource, is_export

NIGHT = date(2026, 11, 2)
FOLDER = "WorkspaceResourceId=/subscriptions/s/workspaces/w/y=2026/m=11/d=02/h=09/m=05"


class Bytes:
    """A source of one blob that is given in memory, read in small pieces."""

    def __init__(self, content, piece=7):
        self.content, self.piece = content, piece

    def blobs(self, last):
        return [landing.Blob("blob", len(self.content))]

    def read(self, name, start, end):
        for at in range(start, end, self.piece):
            yield self.content[at : min(at + self.piece, end)]


def copied(tables):
    """(blob, offset, line) of all landed lines, from the files that manifests name."""
    found = []
    for night in layout.partitions(tables, "landing"):
        manifest = landing.read_manifest(tables, night)
        blobs = {part.file_no: part.blob for part in manifest.ranges}
        for name in manifest.files:
            for row in pq.read_table(layout.night_folder(tables, "landing", night) / name).to_pylist():
                found.append((blobs[row["file_no"]], row["byte_offset"], row["line"]))
    return found


def land(source, tables, nights=1):
    for number in range(nights):
        landing.land(source, tables, NIGHT + timedelta(days=number), NIGHT, NIGHT)


def test_lines_are_copied_with_their_offsets(tmp_path):
    land(Bytes(b"one\ntwo\n\nthree\n"), tmp_path)
    assert copied(tmp_path) == [("blob", 0, "one\n"), ("blob", 4, "two\n"), ("blob", 9, "three\n")]


def test_byte_order_marks_and_blank_lines_are_not_part_of_any_line(tmp_path):
    mark = b"\xef\xbb\xbf"
    land(Bytes(mark + b'{"a":1}\r\n\r\n \n' + mark + b'{"a":2}\n{"a":3}\n'), tmp_path)
    assert copied(tmp_path) == [("blob", 0, '{"a":1}\r\n'), ("blob", 16, '{"a":2}\n'), ("blob", 27, '{"a":3}\n')]


def test_newlines_may_separate_records_and_need_not_end_them(tmp_path):
    source = Bytes(b'{"a":1}\n{"a":2}')
    land(source, tmp_path)
    assert copied(tmp_path) == [("blob", 0, '{"a":1}\n'), ("blob", 8, '{"a":2}\n')]
    source.content += b'\n{"a":3}'
    landing.land(source, tmp_path, NIGHT + timedelta(days=1), NIGHT, NIGHT)
    assert copied(tmp_path)[2:] == [("blob", 16, '{"a":3}\n')]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_half_a_line_waits_until_its_blob_has_stopped_to_grow_and_is_copied_then(tmp_path, pack):
    source = Bytes(pack(b'one\n{"a":1'), piece=9)
    land(source, tmp_path)
    assert copied(tmp_path) == [("blob", 0, "one\n")]
    (waiting,) = landing.read_manifest(tmp_path, NIGHT).waiting
    assert (waiting.blob, waiting.bytes, waiting.stored) == ("blob", 6, len(source.content))
    land(source, tmp_path, nights=3)
    assert copied(tmp_path) == [("blob", 0, "one\n"), ("blob", 4, '{"a":1\n')]
    assert landing.read_manifest(tmp_path, NIGHT + timedelta(days=2)).waiting == ()


def test_half_a_line_is_copied_in_the_night_that_looks_at_its_folder_last(tmp_path):
    file = tmp_path / FOLDER / "PT05M.json"
    file.parent.mkdir(parents=True)
    for nights, text in enumerate(("{", "{}{", "{}{}{")):
        file.write_text(text)
        night = NIGHT + timedelta(days=nights)
        landing.land(FolderSource(tmp_path), tmp_path / "tables", night, night - timedelta(days=2), night)
    assert [line for _, _, line in copied(tmp_path / "tables")] == ["{}{}{\n"]


CUT_SHORT = gzip.compress(b"one\ntwo\n" * 999, mtime=0)[:-30]


@pytest.mark.parametrize("content", [b"\x1f\x8bnothing", CUT_SHORT], ids=["nothing", "cut short"])
def test_compressed_blob_that_cannot_be_unpacked_to_its_end_becomes_a_line_that_is_told(tmp_path, content):
    land(Bytes(content), tmp_path, nights=3)
    lines = [line for _, _, line in copied(tmp_path)]
    assert lines[-1] == "compressed bytes that cannot be unpacked\n"
    assert lines.count(lines[-1]) == 1
    manifests = [landing.read_manifest(tmp_path, night) for night in layout.partitions(tmp_path, "landing")]
    assert [bool(one.waiting) for one in manifests] == [True, False, False]


def test_half_written_line_waits_for_the_night_in_which_it_is_whole(tmp_path):
    source = Bytes(b"one\ntw")
    land(source, tmp_path)
    assert copied(tmp_path) == [("blob", 0, "one\n")]
    source.content += b"o\n"
    landing.land(source, tmp_path, NIGHT + timedelta(days=1), NIGHT, NIGHT)
    assert copied(tmp_path) == [("blob", 0, "one\n"), ("blob", 4, "two\n")]


def test_night_that_was_copied_is_not_copied_again_when_the_blob_has_grown(tmp_path):
    source = Bytes(b"one\n")
    first = landing.land(source, tmp_path, NIGHT, NIGHT, NIGHT)
    source.content += b"two\n"
    assert landing.land(source, tmp_path, NIGHT, NIGHT, NIGHT) == first


def test_copy_without_manifest_is_done_again_from_the_start(tmp_path):
    land(Bytes(b"one\ntwo\n"), tmp_path)
    folder = layout.night_folder(tmp_path, "landing", NIGHT)
    (folder / layout.MANIFEST).unlink()
    (folder / "lines-00007.parquet").write_bytes(b"left by a killed run")
    land(Bytes(b"one\ntwo\n"), tmp_path)
    assert [line for _, _, line in copied(tmp_path)] == ["one\n", "two\n"]
    assert not (folder / "lines-00007.parquet").exists()


def test_night_whose_copy_was_removed_gets_its_bytes_back_and_no_others(tmp_path):
    source = Bytes(b"one\n")
    land(source, tmp_path)
    source.content += b"two\n"
    landing.land(source, tmp_path, NIGHT + timedelta(days=1), NIGHT, NIGHT)
    (layout.night_folder(tmp_path, "landing", NIGHT) / layout.MANIFEST).unlink()
    land(source, tmp_path)
    assert copied(tmp_path) == [("blob", 0, "one\n"), ("blob", 4, "two\n")]


def test_gzip_blob_that_grows_by_a_member_is_copied_once(tmp_path):
    source = Bytes(gzip.compress(b"one\ntwo\n"))
    land(source, tmp_path, nights=2)
    source.content += gzip.compress(b"three\n")
    landing.land(source, tmp_path, NIGHT + timedelta(days=2), NIGHT, NIGHT)
    assert copied(tmp_path) == [("blob", 0, "one\n"), ("blob", 4, "two\n"), ("blob", 8, "three\n")]


def test_gzip_blob_that_is_cut_short_gives_the_lines_before_the_cut(tmp_path):
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(5000)))
    land(Bytes(whole[:-200], piece=4096), tmp_path)
    lines = [line for _, _, line in copied(tmp_path)]
    assert lines == [f"line {number}\n" for number in range(len(lines))]
    assert len(lines) > 3000
    landing.land(Bytes(whole, piece=4096), tmp_path, NIGHT + timedelta(days=1), NIGHT, NIGHT)
    assert len(copied(tmp_path)) == 5000


def test_bytes_that_are_no_utf8_are_escaped_in_their_line_only(tmp_path):
    land(Bytes("ü\n".encode() + b'{"a":"\xff"}\n' + b"{}\n", piece=100), tmp_path)
    assert [line for _, _, line in copied(tmp_path)] == ["ü\n", '{"a":"\\xff"}\n', "{}\n"]


def test_large_blob_is_cut_into_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(landing, "FILE_BYTES", 1000)
    lines = [f"line {number:04d}\n" for number in range(1000)]
    manifest = landing.land(Bytes("".join(lines).encode(), piece=500), tmp_path, NIGHT, NIGHT, NIGHT)
    assert len(manifest.files) > 5
    assert [line for _, _, line in copied(tmp_path)] == lines


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8), st.integers(0, 60))
def test_gaps_and_ranges_together_cover_each_byte_and_gaps_none_that_was_covered(ranges, size):
    covered = [(min(pair), max(pair)) for pair in ranges]
    inside = {byte for start, end in covered for byte in range(start, end)}
    found = [byte for start, end in landing.gaps(covered, size) for byte in range(start, end)]
    assert sorted(found) == [byte for byte in range(size) if byte not in inside]


@given(st.lists(st.text("ab{}\n ", max_size=12), min_size=1, max_size=6), st.integers(1, 9))
def test_of_a_blob_that_grows_by_any_parts_over_nights_each_byte_is_copied_exactly_once(tmp_path_factory, parts, piece):
    tables = tmp_path_factory.mktemp("tables")
    source = Bytes(b"", piece)
    for number, part in enumerate([*parts, "", ""]):
        source.content += part.encode()
        landing.land(source, tables, NIGHT + timedelta(days=number), NIGHT, NIGHT)
    found = copied(tables)
    for _, offset, line in found:
        assert source.content[offset:].startswith(line.removesuffix("\n").encode())
    assert "".join("".join(line for _, _, line in found).split()) == "".join(source.content.decode().split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x/PT05M.json", True), ("x/PT5M.json", True), ("x/PT05M_12.json", True), ("PT05M.json.gz", True),
        ("x/PT15M.json", False), ("x/PT05M.json.tmp", False), ("x/aPT05M.json", False), ("x/PT05M_.json", False),
    ],
)  # fmt: skip
def test_blob_names(name, expected):
    assert is_export(name) is expected


def write(root, day, text, name="PT05M.json"):
    file = root / FOLDER.replace("d=02", f"d={day:02d}") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)


def close(root, day, lookback=2):
    night = date(2026, 11, day)
    return landing.land(FolderSource(root), root / "tables", night, night - timedelta(days=lookback), night)


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())], ids=["plain", "gzip"])
def test_what_is_appended_after_the_last_look_is_told_once_and_read_when_the_look_goes_back_further(tmp_path, pack):
    write(tmp_path, 2, pack("{}\n"))
    assert [close(tmp_path, day).unread for day in (2, 3, 4)] == [()] * 3
    late = pack("{}\n") + pack('{"late": 1}\n')
    write(tmp_path, 2, late)
    (told,) = close(tmp_path, 5).unread
    assert (told.day, told.blobs, told.bytes) == ("2026-11-02", 1, len(pack('{"late": 1}\n')))
    assert close(tmp_path, 6).unread == ()
    write(tmp_path, 2, late + pack("{}\n"))
    write(tmp_path, 3, "{}\n")
    told = close(tmp_path, 7).unread
    assert [(one.day, one.blobs) for one in told] == [("2026-11-02", 1), ("2026-11-03", 1)]
    assert told[0].bytes == len(pack('{"late": 1}\n') + pack("{}\n"))
    assert len(copied(tmp_path / "tables")) == 1
    assert close(tmp_path, 8, lookback=6).unread == ()
    assert len(copied(tmp_path / "tables")) == 4


def test_half_a_line_whose_folder_was_never_looked_at_for_the_last_time_is_told(tmp_path):
    write(tmp_path, 2, '{}\n{"half')
    assert [one.bytes for one in close(tmp_path, 2).waiting] == [6]
    (told,) = close(tmp_path, 9).unread  # the nights between were never closed
    assert (told.day, told.bytes) == ("2026-11-02", 6)


def test_files_beside_the_folders_of_days_are_read_or_told_and_folders_of_a_storage_are_not_files(tmp_path):
    write(tmp_path, 2, "{}\n")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "PT05M.json").write_text("{}\n")
    write(tmp_path, 2, "", name="h=09")  # as a storage with folders lists one
    write(tmp_path, 40, "{}\n")  # the fortieth of November
    manifest = close(tmp_path, 2)
    assert (manifest.strange, manifest.blobs, manifest.lines) == (("notes.txt",), 3, 3)


BURSTS = st.lists(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 3)), max_size=4), min_size=8, max_size=8)


@given(BURSTS, st.integers(0, 3), st.sets(st.integers(2, 9)))
def test_whatever_is_appended_when_and_whichever_nights_are_closed_each_byte_is_kept_or_told(
    tmp_path_factory, bursts, lookback, closed
):
    root = tmp_path_factory.mktemp("export")
    written = dict.fromkeys(range(2, 10), 0)
    told = {}
    for night, burst in enumerate(bursts, start=2):
        for day, lines in burst:
            written[day] += lines
            write(root, day, "{}\n" * written[day])
        if night in closed:
            told |= {date.fromisoformat(one.day).day: one.bytes for one in close(root, night, lookback).unread}
    last = max(closed, default=None)
    if last is None:
        return
    seen = Counter(date(*map(int, re.findall(r"[ymd]=(\d+)/", blob)[:3])).day for blob, _, _ in copied(root / "tables"))
    final = close(root, 20, lookback)  # everything is older than what it looks at
    told |= {date.fromisoformat(one.day).day: one.bytes for one in final.unread}
    for day, lines in written.items():
        assert seen[day] + told.get(day, 0) // 3 == lines


def test_folder_source_lists_the_blobs_of_the_days_of_every_workspace(tmp_path):
    other = FOLDER.replace("/w/", "/another/")
    kept = [f"{FOLDER}/PT05M.json", f"{FOLDER}/PT05M_1.json", f"{other}/PT05M.json"]
    strange = f"{FOLDER}/notes.txt"
    for name in [*kept, strange, FOLDER.replace("d=02", "d=03") + "/PT05M.json"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    found = FolderSource(tmp_path).blobs(NIGHT)
    assert [blob.name for blob in found if blob.exported] == sorted(kept)
    assert [blob.name for blob in found if not blob.exported] == [strange]
    assert {blob.day for blob in found} == {NIGHT}
    manifest = landing.land(FolderSource(tmp_path), tmp_path / "tables", NIGHT, NIGHT, NIGHT)
    assert (manifest.strange, manifest.blobs) == ((strange,), 3)
    assert b"".join(FolderSource(tmp_path).read(kept[0], 1, 2)) == b"\n"


def test_folder_source_without_a_folder_holds_nothing(tmp_path):
    assert FolderSource(tmp_path / "missing").blobs(NIGHT) == []
