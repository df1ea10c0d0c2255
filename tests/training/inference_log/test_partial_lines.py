"""Lines that the runtime cut are put together whatever the order and number of deliveries."""

from hypothesis import given
from hypothesis import strategies as st

from training.inference_log.partial_lines import CUT_BYTES, Piece, join

SERVICE = "Employee Attrition API"


def pieces_of(text, stream="pod", night="2026-11-02", limit=CUT_BYTES, start=0):
    parts = [text[at : at + limit] for at in range(0, len(text), limit)]
    return [Piece(stream, f"t{start + n:04d}", night, 0, start + n, part) for n, part in enumerate(parts)]


def line(mark, length):
    return f'{{"service_name":"{SERVICE}","mark":"{mark}","data":"' + "x" * length + '"}'


@given(
    st.lists(st.integers(CUT_BYTES, 4 * CUT_BYTES), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 30)),
)
def test_any_order_and_any_copies_give_each_line_once(lengths, shuffler, repeated):
    lines = [line(number, length) for number, length in enumerate(lengths)]
    delivered = [p for n, text in enumerate(lines) for p in pieces_of(text, start=100 * n)]
    copies = [
        Piece(p.stream, p.generated, p.night, 1, 1000 + n, p.message) for n, p in enumerate(delivered) if n in repeated
    ]
    mixed = delivered + copies
    shuffler.shuffle(mixed)
    found = join(mixed, SERVICE)
    assert sorted(one.message for one in found.joined) == sorted(lines)
    assert sorted(found.copies) == sorted(copies)
    assert found.unfinished == ()


def test_streams_do_not_mix():
    first, second = line("a", 40_000), line("b", 40_000)
    mixed = [p for pair in zip(pieces_of(first, "one"), pieces_of(second, "two"), strict=True) for p in pair]
    assert {one.message for one in join(mixed, SERVICE).joined} == {first, second}


def test_beginning_without_its_rest_is_unfinished():
    begin, middle, _ = pieces_of(line("a", 40_000))
    found = join([begin, middle], SERVICE)
    assert found.joined == ()
    assert found.unfinished == (begin, middle)


def test_beginning_that_another_beginning_follows_is_unfinished():
    lost, *_ = pieces_of(line("a", 40_000))
    whole = pieces_of(line("b", 40_000), start=50)
    found = join([lost, *whole], SERVICE)
    assert found.unfinished == (lost,)
    assert [one.pieces for one in found.joined] == [tuple(whole)]


def test_rest_without_its_beginning_and_long_lines_of_others_are_left_alone():
    _, *rest = pieces_of(line("a", 20_000))
    other = pieces_of('{"service_name":"Other API","data":"' + "x" * 40_000 + '"}', stream="other")
    found = join([*rest, *other], SERVICE)
    assert (found.joined, found.unfinished, found.copies) == ((), (), ())


def test_line_belongs_to_the_night_of_its_last_piece():
    begin, middle, end = pieces_of(line("a", 40_000))
    late = Piece(middle.stream, middle.generated, "2026-11-03", 0, 7, middle.message)
    (joined,) = join([begin, late, end], SERVICE).joined
    assert joined.last == late
    assert joined.message == line("a", 40_000)
