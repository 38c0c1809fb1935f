"""Every record of a text, or an error that names its line: against Python's csv module."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_service.recommender.data import csv_text
from cloud_service.recommender.data.table import Table, read_table
from shared.errors import DataError

NAMES = ("user_id", "item_id", "timestamp")
HEAD = "user_id,item_id,timestamp,query"


def read(folder: Path, content: str | bytes, name: str = "log.csv") -> Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, NAMES)


def shop(rows: int, column: int, queries: dict[int, str]) -> str:
    """A log of which some rows hold a query that nobody quoted, in the chosen column."""
    lines = []
    for row in range(rows):
        fields = [f"u{row % 50}", f"i{row % 70}", str(1_600_000_000 + row)]
        lines.append(",".join([*fields[:column], queries.get(row, "shoes"), *fields[column:]]))
    names = [*NAMES[:column], "query", *NAMES[column:]]
    return "\n".join([",".join(names), *lines]) + "\n"


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("query", ['20" tv', 'tv"', 'a"b"c'])
def test_quotes_within_fields_lose_no_row(tmp_path: Path, column: int, query: str) -> None:
    table = read(tmp_path, shop(2_000, column, dict.fromkeys(range(7, 2_000, 97), query)))
    assert table.frame.height == 2_000
    assert table.where(1_999) == "line 2001"


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("query", ['"tv', '"', '" tv', '""tv'])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_quotes_that_open_a_field_without_reason_are_refused_with_their_line(
    tmp_path: Path, column: int, query: str, count: int
) -> None:
    rows = range(40, 40 + 61 * count, 61)
    with pytest.raises(DataError, match=r"lines? 42\b.*check its quotes"):
        read(tmp_path, shop(2_000, column, dict.fromkeys(rows, query)))


FIELD = st.text(st.sampled_from('ab"\n\r, é;'), max_size=6)
ENDS = ("\n", "\r\n", "\r")


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A log as several programs write it, and some of them wrongly."""
    lines = [HEAD]
    for row in range(draw(st.integers(1, 6))):
        fields = [f"u{row}", "i", str(row), draw(FIELD)]
        if draw(st.booleans()):
            lines.append(",".join(fields))
            continue
        buffer = io.StringIO(newline="")
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        csv.writer(buffer, lineterminator="", quoting=quoting).writerow(fields)
        lines.append(buffer.getvalue())
    end = draw(st.sampled_from(ENDS))
    return end.join(lines) + draw(st.sampled_from(["", end, end * 2]))


@settings(deadline=None)
@given(text=texts())
def test_any_text_gives_the_rows_of_the_csv_module_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        rows = None
    try:
        found = read(tmp_path_factory.mktemp("csv"), text).frame.rows()
    except DataError:
        # What csv takes is refused only where rows are ragged or a quote holds a row.
        whole = rows is not None and all(len(row) in (0, 4) for row in rows)
        assert not whole or '"' in text
        return
    if ', "' in text:
        return  # there a quote opens a field, which csv does not know
    assert rows is not None
    kept = [
        tuple(value or None for value in row[:3]) for row in rows[1:] if any(map(str.strip, row))
    ]
    assert found == kept


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8),
    written=st.sampled_from(
        [
            # With another line end it would not quote a lone carriage return.
            (csv.QUOTE_MINIMAL, "\r\n"),
            *((quoting, end) for quoting in (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC) for end in ENDS),
        ]
    ),
)
def test_every_row_that_the_csv_module_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    written: tuple[int, str],
) -> None:
    quoting, end = written
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["note", *NAMES, "more"])
    for row, (note, more) in enumerate(rows):
        writer.writerow([f"n{note}", f"u{row}", "i", row, f"m{more}"])
    table = read(tmp_path_factory.mktemp("csv"), buffer.getvalue())
    assert table.frame["timestamp"].to_list() == [str(row) for row in range(len(rows))]


QUOTED = {
    "R": ('"user_id","item_id","timestamp","note"\n"u{0}","i",{0},"a, ""b"""\n', 1),
    "every field": ('"user_id","item_id","timestamp","note"\r\n"u{0}","i","{0}",""\r\n', 1),
    "notes of two lines": ('user_id,item_id,timestamp,note\nu{0},i,{0},"a\nb"\n', 2),
    "a row of nothing": ('user_id,item_id,timestamp,note\nu{0},i,{0},"a"\n"","",,\n', 2),
}


@pytest.mark.parametrize("case", QUOTED)
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_quoted_texts_are_read_alike_by_lines_and_by_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, size: int
) -> None:
    monkeypatch.setattr(csv_text, "CHUNK", size)
    header, body = QUOTED[case][0].split("\n", 1)
    text = header + "\n" + "".join(body.format(row) for row in range(60))
    table = read(tmp_path, "\ufeff" + text)
    assert table.frame.rows() == [(f"u{row}", "i", str(row)) for row in range(60)]
    assert table.where(59) == f"line {2 + 59 * QUOTED[case][1]}"


def test_blocks_end_where_lines_end_at_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shop(40, 3, {5: '20" tv', 9: "é" * 30})
    for ends in ("\n", "\r\n", "\r"):
        for size in (1, 2, 3, 7, 64):
            monkeypatch.setattr(csv_text, "CHUNK", size)
            table = read(tmp_path, text.replace("\n", ends))
            assert table.frame.height == 40
            assert table.where(39) == "line 41"


SAME = f"{HEAD}\nu1,i1,1,a\nu2,i2,2,\nu3,i3,3,c\n"
ROWS = [("u1", "i1", "1"), ("u2", "i2", "2"), ("u3", "i3", "3")]

WRITTEN = {
    "as it is": (SAME, "log.csv", ""),
    "UTF-16, as Unicode text of a spreadsheet": (
        SAME.replace(",", "\t").encode("utf-16"),
        "log.txt",
        "UTF-16 text, tabs between fields",
    ),
    "UTF-16, most significant byte first": (
        b"\xfe\xff" + SAME.encode("utf-16-be"),
        "log.csv",
        "UTF-16 text",
    ),
    "UTF-16 in gzip": (gzip.compress(SAME.encode("utf-16")), "log.csv.gz", "UTF-16 text"),
    "gzip under a plain name": (gzip.compress(SAME.encode()), "log.csv", ""),
    "gzip, zeros behind it": (gzip.compress(SAME.encode()) + b"\0" * 512, "log.csv.gz", ""),
    "gzip in two members": (
        gzip.compress(SAME[:40].encode()) + gzip.compress(SAME[40:].encode()),
        "log.csv.gz",
        "",
    ),
    "line ends of three kinds": (SAME.replace("\n", "\r", 1).replace("\n", "\r\n", 1), "a.csv", ""),
    "a comma behind the header": (SAME.replace(HEAD, f"{HEAD},"), "log.csv", ""),
    "commas behind rows": (SAME.replace("a\n", "a,,\n"), "log.csv", ""),
    "rows of commas at the end": (SAME + ",,,\n,,,\n", "log.csv", ""),
    "lines of blanks and commas": (SAME.replace("a\n", "a\n \n , , ,\n\t\n") + "  ", "log.csv", ""),
    "lines of blanks beside quotes": (
        SAME.replace("a\n", '"a"\n \n , , ,\n') + " \n",
        "log.csv",
        "",
    ),
    "a blank behind commas, and quotes": (
        f'{HEAD}\nu1, "i1", 1, "a, b"\nu2, "i2", 2,\nu3, i3, 3, c\n',
        "log.csv",
        "",
    ),
    "semicolons": (SAME.replace(",", ";"), "log.csv", "semicolons between fields"),
    "bars": (SAME.replace(",", "|"), "log.csv", "vertical bars between fields"),
    "semicolons, and commas within fields": (
        SAME.replace(",", ";").replace("c\n", "a,b,c,d,e,f,g\n"),
        "log.csv",
        "semicolons between fields",
    ),
    "RecBole's, where a quote is a letter": (
        "user_id:token\titem_id:token\ttimestamp:float\tq:token\n"
        'u1\ti1\t1\t"a\nu2\ti2\t2\t"\nu3\ti3\t3\tc\n',
        "log.inter",
        "tabs between fields, columns user_id:token, item_id:token and timestamp:float read as "
        "user_id, item_id and timestamp",
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_the_same_rows_are_read_however_they_are_packed(tmp_path: Path, case: str) -> None:
    content, name, words = WRITTEN[case]
    table = read(tmp_path, content, name)
    assert [tuple(value.strip() for value in row) for row in table.frame.rows()] == ROWS
    assert table.description == words


REFUSED = {
    "a field less in the middle": ("u1,i1,1,a\nu2,2,b\n", "line 3 has 3 of the header's 4 fields"),
    "a field more": ("u1,i1,1,a\nu2,i2,2,b,c\n", r"line 3 has more fields than the header \(5,"),
    "a field more beside quotes": ('u1,i1,1,"a"\n\nu2,i2,2,b,c\n', "line 4 has more fields"),
    "a field less beside quotes": ('u1,i1,1,"a\nb"\nu2,i2\n', "line 4 has 2 of the header's 4"),
    "the header again": (f"u1,i1,1,a\n{HEAD}\nu2,i2,2,b\n", "line 3 repeats the header"),
    "the header again, quoted": (
        f'u1,i1,1,"a"\n{HEAD}\nu2,i2,2,b\n',
        "line 3 repeats the header",
    ),
    "an end of DOS": ("u1,i1,1,a\n\x1a", "line 3 has 1 of the header's 4 fields"),
    "a quote that nobody closes in 200,000 letters": (
        f'u1,i1,1,"{"a" * 200_000}\nu2,i2,2,b\n',
        "line 2 is not closed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_row_that_cannot_be_told_apart_is_refused_with_its_line(
    tmp_path: Path, case: str
) -> None:
    rows, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, f"{HEAD}\n{rows}")


@pytest.mark.parametrize("above", ["# made in May", "sep=;", "My shop,,,\n,,,"])
def test_lines_above_the_header_are_pointed_out(tmp_path: Path, above: str) -> None:
    line = above.count("\n") + 2
    with pytest.raises(DataError, match=f"names the columns is line {line}: remove what is above"):
        read(tmp_path, f"{above}\n{SAME}")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (gzip.compress(gzip.compress(SAME.encode())), "log.csv.gz", "is gzip within gzip"),
        (gzip.compress(SAME.encode()) + b"rest", "log.csv.gz", "damaged or cut short"),
        (SAME.encode("utf-16-be"), "log.csv", "zero bytes in its first line"),
        (SAME.replace(",", " ").encode(), "log.csv", "part the columns with commas"),
        (b'"user_id,item_id', "log.csv", "line 1 is not closed"),
    ],
    ids=["gzip within gzip", "more behind gzip", "UTF-16", "spaces", "an open quote"],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, name)


def test_a_row_that_has_none_of_the_wanted_fields_is_no_blank_line(tmp_path: Path) -> None:
    table = read(tmp_path, SAME.replace("c\n", "c\n\n,,,shoes\n,,,\n"))
    assert table.frame.rows()[3:] == [(None, None, None)]
    assert table.where(3) == "line 6"
