"""Inputs of the review: what other programs made of a log on the way, read rightly or refused."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_service.recommender.data import table
from cloud_service.recommender.data.log import LogFile, read_log, read_titles
from shared.errors import DataError

HEAD = "user_id,item_id,timestamp"
ROWS = "u1,i1,1\nu1,i2,2\nu2,i1,3\nu2,i2,4\n"
CLICKS = [("u1", "i1", 1), ("u1", "i2", 2), ("u2", "i1", 3), ("u2", "i2", 4)]


def read(
    folder: Path, content: str | bytes, columns: str | None = None, name: str = "log.csv"
) -> LogFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_log(path, columns)


def with_users(*users: str) -> str:
    return f"{HEAD}\n" + "".join(f"{user},x,{time}\n" for time, user in enumerate((*users, "z")))


def with_times(*times: str) -> str:
    return f"{HEAD}\n" + "".join(f"a,x,{time}\n" for time in times) + f"b,x,{times[0]}\n"


SOUND = {
    "blanks alone above the header": f"   \n{HEAD}\n{ROWS}",
    "commas alone above the header": f",,\n{HEAD}\n{ROWS}",
    "a blank line below the header": f"{HEAD}\n\n{ROWS}",
    "two marks of byte order": f"\ufeff\ufeff{HEAD}\n{ROWS}",
    "line ends of two carriage returns": f"{HEAD}\n{ROWS}".replace("\n", "\r\r\n"),
    "a document in a field that is not read": (
        f'{HEAD},page\nu1,i1,1,"{"z" * 200_000}"\n' + ROWS[8:].replace("\n", ",\n")
    ),
    "a comma at the end of some lines, the columns first": f"{HEAD}\nu1,i1,1,\n{ROWS[8:]}",
    "a comma at the end of every line, other columns first": (
        f"n,{HEAD}\n" + "".join(f"1,{line},\n" for line in ROWS.splitlines())
    ),
    "two lines in a field, and commas": (
        f'note,{HEAD}\n"a,b,c,d\ne",u1,i1,1\n'
        + "".join(f"n,{line}\n" for line in ROWS.splitlines()[1:])
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_log_is_read_whole(tmp_path: Path, case: str) -> None:
    log = read(tmp_path, SOUND[case])
    assert (log.frame.rows(), log.notes) == (CLICKS, ())


NOTED = "user_id,note,item_id,timestamp\n"
LOST = {
    "two quotes that make one row of two": (
        NOTED + 'u1,"foo,i1,1\nu2,bar",i2,2\nu3,x,i1,3\nu4,x,i2,4\n',
        "lines 2 to 3 .*looks like a row .'u2,bar,i2,2'",
    ),
    "a comma in a title that moves a price to the time": (
        "user_id,title,item_id,timestamp,price\nu1,Lamp, red,107,5,\nu2,Desk,106,5,9\n",
        "line 2 has more fields than the header, others have not",
    ),
    "the same in a file with quotes": (
        'user_id,title,item_id,timestamp,price\nu2,"Desk",106,5,9\nu1,Lamp, red,107,5,\n',
        "line 3 has more fields than the header, others have not",
    ),
    "names of rows that have no name": (
        '"user_id","item_id","timestamp"\n"1","a","x",1\n"2","b","x",2\n',
        "line 2 has more fields.*name the columns that have no name",
    ),
    "a web page": ("<!DOCTYPE html>\n<html>\n", "web page .*download the file itself"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\n", "pointer .*download the file"),
    "JSON": ('{"user_id":1,"item_id":2,"timestamp":3}\n', "is JSON by its first bytes"),
    "the time of day beside its date": (
        "user_id,item_id,date,time\na,x,2024-05-01,183000\na,x,2024-05-02,173000\n",
        "no column timestamp.*one column timestamp of the date and the time",
    ),
    "a wide file without a header": (
        "1,2,5,8,881250949\n2,2,5,8,881250950\n",
        "add a line of 5 names before it, parted as your columns are",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_a_log_that_would_be_misread_is_refused(tmp_path: Path, case: str) -> None:
    content, message = LOST[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_a_title_is_never_cut_at_a_comma_that_nobody_quoted(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,price\n1,Lamp, red,\n2,Desk,3\n")
    with pytest.raises(DataError, match="line 2 has more fields than the header, others have not"):
        read_titles(path)


@pytest.mark.parametrize("columns", ["user=item_id", "time=item_id", "item=user_id"])
def test_one_column_cannot_be_two(tmp_path: Path, columns: str) -> None:
    with pytest.raises(DataError, match=r"has no column .*--columns user="):
        read(tmp_path, f"{HEAD}\n{ROWS}", columns)


@pytest.mark.parametrize("time", ["1511544070", "2017-11-25 01:21:10"])
def test_a_row_is_never_taken_for_the_names_of_columns(tmp_path: Path, time: str) -> None:
    text = (
        f"1,2268318,2520377,pv,{time}\n1,2333346,2520771,pv,{time}\n2,2268318,2520377,pv,{time}\n"
    )
    with pytest.raises(DataError, match=r"first line that is a row.*add the line user_id"):
        read(tmp_path, text, f"user=1,item=2268318,time={time}")


def test_numbers_may_name_columns(tmp_path: Path) -> None:
    text = f"0,1,2\n{ROWS}"
    assert read(tmp_path, text, "user=0,item=1,time=2").frame.rows() == CLICKS


@pytest.mark.parametrize(
    "user", ["########", "[object Object]", "#SPILL!", "1.2345678E7", "1.5E+10", "(null)"]
)
def test_what_a_program_put_in_the_place_of_an_id_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(DataError, match="the user_id of line 3 is"):
        read(tmp_path, with_users("a", user))


@pytest.mark.parametrize("user", ["1e5", "2E4", "#1", "0x10", "-7", "NaN7", "1.5"])
def test_ids_that_only_look_like_damage_stay(tmp_path: Path, user: str) -> None:
    assert user in read(tmp_path, with_users("a", user)).frame["user_id"].to_list()


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("0100", "100", "written with zeros or a sign in front ('0100' and '100')"),
        ("+1", "1", "written with zeros or a sign in front ('+1' and '1')"),
        ("a b", "a\u00a0b", "only in blanks, wide or invisible letters ('a b' and 'a\\xa0b')"),
        ("12", "\uff11\uff12", "only in blanks, wide or invisible letters"),
        ("a\u00adb", "ab", "only in blanks, wide or invisible letters"),
        ("ab", "AB", "only in capitals"),
    ],
)
def test_two_ids_that_may_be_one_are_said_and_stay_two(
    tmp_path: Path, one: str, other: str, said: str
) -> None:
    log = read(tmp_path, with_users(one, other))
    assert set(log.frame["user_id"]) == {one, other, "z"}
    assert len(log.notes) == 1
    assert said in log.notes[0]


SAME_TIMES = {
    "a program that writes all digits of a number": (
        ("1.7E9", "1.700000001E9", "1.70000001E9"),
        [1_700_000_000, 1_700_000_001, 1_700_000_010],
    ),
    "microseconds with fractions": (
        ("1700000000123456.25", "1700000000123457.5", "1700000000123459"),
        [1_700_000_000_123_456_250, 1_700_000_000_123_457_500, 1_700_000_000_123_459_000],
    ),
    "nanoseconds of a clock that started with the program": (
        ("1", "300000000", "20000000000", "400000000000", "3600000000000"),
        [1, 300_000_000, 20_000_000_000, 400_000_000_000, 3_600_000_000_000],
    ),
}


@pytest.mark.parametrize("case", SAME_TIMES)
def test_sound_times_keep_their_order_and_distances(tmp_path: Path, case: str) -> None:
    written, expected = SAME_TIMES[case]
    frame = read(tmp_path, with_times(*written)).frame
    times = frame.filter(pl.col("user_id") == "a")["timestamp"].to_list()
    # A float of this size is a quarter of a microsecond exact.
    assert times == pytest.approx(expected, rel=0, abs=250 if "fractions" in case else 0)


BAD_TIMES = {
    "zeros, be they most": (("0",) * 6 + ("1700000000",) * 4, "line 2 is '0', before 1971"),
    "digits that a fraction beside them costs": (
        ("1700000000000000001", "1700000000000000002.5"),
        "line 2 is '1700000000000000001', and others have fractions",
    ),
    "a spreadsheet's few digits": (("1.7E+09", "1.71E+09"), "line 2 is '1.7E.09'.*rounded"),
    "seconds and milliseconds beside a few zeros": (
        ("1700000000",) * 30 + ("1700000000000",) * 30 + ("0",),
        "mixes seconds and milliseconds",
    ),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_times_that_lost_their_order_are_refused(tmp_path: Path, case: str) -> None:
    written, message = BAD_TIMES[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, with_times(*written))


def test_dates_among_times_are_said(tmp_path: Path) -> None:
    log = read(tmp_path, with_times("2024-05-31T10:00:00", "2024-05-31"))
    assert log.notes == ("timestamp: 1 of 3 times are dates alone, and were taken as midnight",)


def test_seconds_that_were_stored_as_nanoseconds_are_said(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    times = pl.Series([1_700_000_000, 1_700_000_060, 1_700_000_120]).cast(pl.Datetime("ns"))
    pl.DataFrame({"user_id": list("aab"), "item_id": ["x"] * 3, "timestamp": times}).write_parquet(
        path
    )
    assert read_log(path).notes == (
        "timestamp: no time is after 1980: check the unit that it was written in",
    )


def test_float_times_with_fractions_of_a_microsecond_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    times = [1_700_000_000_123_456.25, 1_700_000_000_123_457.5, 1_700_000_000_123_459.0]
    pl.DataFrame({"user_id": list("aab"), "item_id": ["x"] * 3, "timestamp": times}).write_parquet(
        path
    )
    assert read_log(path).frame["timestamp"].is_sorted()
    assert read_log(path).frame["timestamp"].n_unique() == 3


def test_a_parquet_row_without_values_is_no_blank_line(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame(
        {"user_id": ["a", None, "b"], "item_id": ["x", None, "x"], "timestamp": [1, None, 2]}
    ).write_parquet(path)
    with pytest.raises(DataError, match="row 2 has no user_id"):
        read_log(path)


def test_a_file_that_memory_cannot_hold_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(table, "read_rows", exhausted)
    with pytest.raises(DataError, match="needs more memory than there is: give a part of it"):
        read(tmp_path, f"{HEAD}\n{ROWS}")


NOTES = (
    *("foo", '"foo', 'bar"', '"', 'a"b', '"x"', '""', '"a""', '""b', "x, y", '"x, y"'),
    *("", '"x,', 'y"," z', '" q', 'q "', '",', '\\"', 'a\\"b'),
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(NOTES), min_size=2, max_size=6),
    st.integers(0, 3),
    st.sampled_from(",\t;|"),
    st.booleans(),
)
def test_notes_that_nobody_quoted_rightly_make_no_click_another(
    tmp_path_factory: pytest.TempPathFactory,
    notes: list[str],
    position: int,
    separator: str,
    more: bool,
) -> None:
    def line(fields: list[str], note: str, last: str) -> str:
        note = note.replace(",", separator)
        ends = [last] if more else []
        return separator.join([*fields[:position], note, *fields[position:], *ends]) + "\n"

    clicks = [(f"u{row % 2}", f"i{row % 2}", 1_600_000_000 + row) for row in range(len(notes))]
    text = line(["user_id", "item_id", "timestamp"], "note", "more")
    for click, note in zip(clicks, notes, strict=True):
        text += line([*map(str, click)], note, "")
    try:
        rows = read(tmp_path_factory.mktemp("csv"), text).frame.rows()
    except DataError:
        return
    assert sorted(rows) == sorted(clicks)
