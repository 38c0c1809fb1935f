"""Click logs and item files as people have them, and what they are told about bad ones."""

import gzip
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from cloud_service.recommender.data.log import read_log, read_titles
from shared.errors import DataError

GOOD = "user_id,item_id,timestamp\nb,x,2\na,x,9\nb,y,1\na,y,3\n"
ROWS = [("a", "y", 3), ("a", "x", 9), ("b", "y", 1), ("b", "x", 2)]


def csv(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def times(folder: Path, *values: str) -> list[int]:
    """What becomes of the times of one user's clicks, in the order of time."""
    lines = [f"a,x,{value}" for value in values] + [f"b,x,{values[0]}"]
    frame = read_log(csv(folder, "user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")).frame
    return frame.filter(pl.col("user_id") == "a")["timestamp"].to_list()


def test_rows_come_sorted_by_user_then_time(tmp_path: Path) -> None:
    frame = read_log(csv(tmp_path, GOOD)).frame
    assert frame.rows() == ROWS
    assert dict(frame.schema) == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
    }


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    items = [f"i{n * 7 % 50}" for n in range(50)]
    text = "user_id,item_id,timestamp\nz,i1,5\n" + "".join(f"a,{i},5\n" for i in items)
    assert read_log(csv(tmp_path, text)).frame["item_id"].to_list() == [*items, "i1"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "CSV"])
def test_every_format_reads_the_same(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"log.{ending}"
    if ending == "csv.gz":
        path.write_bytes(gzip.compress(GOOD.encode()))
    elif ending == "parquet":
        pl.read_csv(GOOD.encode()).write_parquet(path)
    else:
        path.write_text(GOOD)
    assert read_log(path).frame.rows() == ROWS


def test_extra_columns_another_order_bom_crlf_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    text = (
        "\ufefftimestamp,note,item_id,user_id\r\n2,,x,b\r\n9,q,x,a\r\n\r\n1,,y,b\r\n3,,y,a\r\n\r\n"
    )
    assert read_log(csv(tmp_path, text)).frame.rows() == ROWS


def test_a_name_with_brackets_is_a_name_and_no_pattern(tmp_path: Path) -> None:
    assert read_log(csv(tmp_path, GOOD, "log[1].csv")).frame.rows() == ROWS


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([2, 1, 2], dtype=pl.UInt8),
        pl.Series([2.0, 1.0, 2.0]),
        pl.Series(["2", "1", "2"], dtype=pl.Categorical),
    ],
)
def test_parquet_ids_of_any_plain_type_become_strings(tmp_path: Path, ids: pl.Series) -> None:
    frame = pl.DataFrame({"user_id": ids, "item_id": ids, "timestamp": [1, 2, 3]})
    frame.write_parquet(tmp_path / "log.parquet")
    assert read_log(tmp_path / "log.parquet").frame.rows() == [
        ("1", "1", 2),
        ("2", "2", 1),
        ("2", "2", 3),
    ]


def test_whole_numbers_stay_as_they_are(tmp_path: Path) -> None:
    assert times(tmp_path, "9", " 3", "-4") == [-4, 3, 9]
    assert times(tmp_path, "9.0", "3", "1e3") == [3, 9, 1000]
    assert times(tmp_path, str(2**63 - 1), str(2**63 - 2)) == [2**63 - 2, 2**63 - 1]


def test_fractions_become_millionths(tmp_path: Path) -> None:
    assert times(tmp_path, "2", "1.25", "1.5") == [1_250_000, 1_500_000, 2_000_000]


def test_a_fraction_is_rounded_to_the_nearest_millionth(tmp_path: Path) -> None:
    assert 2.064446 * 1e6 < 2_064_446  # in floating point
    assert times(tmp_path, "2.064446", "1") == [1_000_000, 2_064_446]


def test_iso_times_become_microseconds_in_utc(tmp_path: Path) -> None:
    found = times(
        tmp_path,
        "1970-01-01T00:00:03",
        "1970-01-01 00:00:02.5",
        "1970-01-01T00:00:01Z",
        "1970-01-01T01:00:04+01:00",
        "1970-01-01",
        "1970-01-01T00:01",
        "1970-01-01 00:02Z",
    )
    seconds = [0, 1, 2.5, 3, 4, 60, 120]
    assert found == [int(second * 1_000_000) for second in seconds]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([date(1970, 1, 3), date(1970, 1, 2)], [86_400_000_000, 2 * 86_400_000_000]),
        ([datetime(1970, 1, 1, 0, 0, 2), datetime(1970, 1, 1, 0, 0, 1)], [1_000_000, 2_000_000]),
        ([datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)] * 2, [2_000_000] * 2),
        ([2.5, 1.0], [1_000_000, 2_500_000]),
        (["7", "5"], [5, 7]),
    ],
)
def test_parquet_times_of_every_kind_are_read(
    tmp_path: Path, values: list[object], expected: list[int]
) -> None:
    frame = pl.DataFrame(
        {"user_id": ["a", "a", "b"], "item_id": ["x"] * 3, "timestamp": [*values, values[0]]}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    assert read_log(tmp_path / "log.parquet").frame["timestamp"].to_list()[:2] == expected


BAD_ROWS = {
    "no such column": (
        "usr,item_id,timestamp\na,x,1\n",
        "no column user_id: it has 'usr'.*--columns user=usr,item=item_id,time=timestamp",
    ),
    "two missing": ("usr,thing,timestamp\na,x,1\n", "no columns user_id and item_id"),
    "no header": ("1,2,3\n4,5,6\n", "the first line must name the columns"),
    "semicolons": ("user_id;item_id;timestamp\na;x;1\n", "user_id"),
    "a column twice": ("user_id,item_id,timestamp,item_id\na,x,1,y\n", "item_id twice"),
    "header only": ("user_id,item_id,timestamp\n", "no rows"),
    "blank lines only": ("user_id,item_id,timestamp\n\n\n", "no rows"),
    "no user": (GOOD + ",x,1\n", "line 6 has no user_id"),
    "no item": (GOOD + 'a,"",1\n', "line 6 has no item_id"),
    "no time": (GOOD + "a,x,\n", "timestamp of line 6 is missing: "),
    "a word for a time": (GOOD + "\na,x,soon\na,x,late\n", "line 7 is 'soon' .2 such rows"),
    "infinity": (GOOD + "a,x,inf\n", "line 6 is 'inf'"),
    "not a number": (GOOD + "a,x,nan\n", "line 6 is 'nan'"),
    "too large": (GOOD + "a,x,1e300\n", "line 6 is '1e300'.*rounded"),
    "no such day": ("user_id,item_id,timestamp\na,x,2024-01-31\nb,x,2024-02-31\n", "2024-02-31"),
    "two kinds of time": (GOOD + "a,x,2024-01-31\n", "line 6 is '2024-01-31'"),
    "one user": ("user_id,item_id,timestamp\na,x,1\na,x,2\n", "only one user .'a'"),
    "no item twice": ("user_id,item_id,timestamp\na,x,1\nb,y,2\n", "no item is seen twice"),
    "too many fields": (GOOD + "a,x,1,2\n", "line 6 has more fields than the header"),
    "an open quote": (GOOD + '"a,x,1\n', "check its quotes"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named_with_what_to_do(tmp_path: Path, case: str) -> None:
    text, message = BAD_ROWS[case]
    with pytest.raises(DataError, match=message) as caught:
        read_log(csv(tmp_path, text))
    assert "log.csv" in caught.value.detail
    assert caught.value.detail.endswith(".")


BAD_FILES = {
    "empty.csv": (b"", "is empty"),
    "newline.csv": (b"\n", "is empty"),
    "plain.csv.gz": (GOOD.encode(), "is not gzip"),
    "cut.csv.gz": (gzip.compress(GOOD.encode() * 999)[:-9], "damaged or cut short"),
    "cut_early.csv.gz": (gzip.compress(GOOD.encode())[:14], "damaged or cut short"),
    "flipped.csv.gz": (gzip.compress(GOOD.encode())[:-8] + b"\0" * 8, "damaged or cut short"),
    "latin.csv": (GOOD.encode() + "é,x,3\n".encode("latin-1"), "line 6 holds the byte 0xe9"),
    "latin.csv.gz": (gzip.compress(GOOD.encode() + b"a,\xff,3\n"), "line 6 holds the byte 0xff"),
    "wide.csv": (GOOD.encode("utf-16-le"), "zero bytes in its first line"),
    "odd.csv": (GOOD.encode("utf-16") + b"x", "begins as UTF-16 text but is not"),
    "log.tsv": (b"PAR1" + b"\xff" * 40, "is a Parquet file by its first bytes"),
    "log.txt": (b"PK\3\4" + b"\xff" * 40, "is a zip archive or workbook by its first bytes"),
    "cut_char.csv": (GOOD.encode() + b"a,x,\xe2\x82", "line 6 holds the byte 0xe2"),
    "text.parquet": (GOOD.encode(), "not a readable Parquet"),
    "magic.parquet": (b"PAR1" + b"\xff" * 40 + b"PAR1", "not a readable Parquet"),
    "log.xlsx": (b"PK", r"ends in .xlsx.*save it as one of .csv, .csv.gz, .tsv"),
    "log": (b"x", "has no ending"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_told_apart(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path / name)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        read_log(tmp_path / "none.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read_log(tmp_path / "d.csv")


# The reader prints the panics of its Rust threads itself; they reach us as exceptions.
def test_a_parquet_file_damaged_anywhere_is_an_error_and_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    rows = [(str(n % 7), str(n % 11), n) for n in range(300)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    frame.write_parquet(path)
    good = path.read_bytes()
    refused = 0
    for place in range(0, len(good), len(good) // 40):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            read_log(path)
        except DataError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize(
    ("column", "values"),
    [("user_id", [[1], [2]]), ("item_id", [b"x", b"x"]), ("timestamp", [True, False])],
)
def test_parquet_columns_of_a_useless_type_are_refused(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    columns = {"user_id": ["a", "b"], "item_id": ["x", "x"], "timestamp": [1, 2], column: values}
    pl.DataFrame(columns).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=f"column {column} has the type"):
        read_log(tmp_path / "log.parquet")


def test_titles_are_one_line_and_the_first_of_an_item_counts(tmp_path: Path) -> None:
    text = 'item_id,title,price\n1,"a\tb\n c",3\n2,,1\n1,other,2\n3, d ,\n'
    items = read_titles(csv(tmp_path, text))
    assert items.titles == {"1": "a b c", "3": "d"}
    assert items.notes == (
        "log.csv: 1 row gives an item another title than its first, which counts",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,titel\n1,a\n", "rename 'titel' to title"),
        ("item_id,title\n1,\n", "no title in any row"),
        ("item_id,title\n,a\n", "line 2 has no item_id"),
        ("item_id,title\n1,a,b\n", "line 2 has more fields than the header"),
    ],
)
def test_bad_item_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_titles(csv(tmp_path, text))
