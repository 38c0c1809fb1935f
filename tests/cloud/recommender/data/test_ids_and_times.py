"""What spreadsheets and dataframes do to ids and times: undone exactly, said, or refused."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from cloud_service.recommender.data.log import LogFile, read_log
from shared.errors import DataError

HEAD = "user_id,item_id,timestamp\n"


def log_of(
    folder: Path, *, items: list[str] | None = None, times: list[str] | None = None
) -> LogFile:
    """A log with these items or times, one row each; the last row repeats the first."""
    items = [*(items or []), *(items or [])[:1]] or ["x"] * (len(times or ()) + 1)
    times = [*(times or []), *(times or [])[:1]] or [str(number) for number in range(len(items))]
    rows = zip(range(len(items)), items, times, strict=True)
    text = "".join(f'"u{number % 2}","{item}","{when}"\n' for number, item, when in rows)
    path = folder / "log.csv"
    path.write_text(HEAD + text, encoding="utf-8")
    return read_log(path)


def test_blanks_around_ids_are_taken_off_and_said(tmp_path: Path) -> None:
    log = log_of(tmp_path, items=["a ", "\u00a0b", "c"])
    assert sorted(set(log.frame["item_id"])) == ["a", "b", "c"]
    assert log.notes == ("3 item_ids had blanks around them, which were taken off",)


KEPT = {
    "with and without .0": (["1.0", "A-1"], "1 of 2 ids end in .0"),
    "fractions": (["1.5", "2.25"], "are numbers with a fraction"),
    "thousands": (["1,234", "5,678"], "look like numbers with thousands separators"),
    "dates of a spreadsheet": (["2-Jan", "Mar-01"], "look like dates that a spreadsheet made"),
    "an apostrophe of a spreadsheet": (["'0100", "b"], "begin with the apostrophe"),
    "bytes of Python": (["b'x'", "y"], "are bytes that Python wrote"),
    "letters that could not be read": (["caf\ufffd", "y"], "a letter that could not be read"),
    "perhaps missing": (["NA", "y"], "may stand for a missing value"),
    "line breaks": (["a\nb", "y"], "hold line breaks"),
    "capitals": (["abc", "ABC"], "only in capitals ('ABC' and 'abc')"),
    "composed differently": (
        ["caf\u00e9", "cafe\u0301"],
        r"composed differently ('cafe\u0301' and 'caf\xe9')",
    ),
    "fifteen digits": (
        ["123456789012341000", "123456789012342000", "123456789012343000"],
        "as if a spreadsheet had rounded them",
    ),
    "digits of a floating-point number": (
        [str(int(float(1_234_567_890_123_456_789 + 4_097 * n))) for n in range(4)],
        "as if a floating-point number had rounded them",
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_ids_that_look_damaged_are_kept_and_said(tmp_path: Path, case: str) -> None:
    items, note = KEPT[case]
    log = log_of(tmp_path, items=items)
    assert set(log.frame["item_id"]) == set(items)
    assert len(log.notes) == 1
    assert note in log.notes[0]


@pytest.mark.parametrize(
    "items",
    [
        ["0100", "0101"],
        ["-1", "0", "1E5", "a:b", "x y", "日本"],
        [str(1_234_567_890_123_456_789 + 4_097 * n) for n in range(4)],
        ["8a1f", "8a2f", "1e10"],
        ["1.0.1", "1.0.2"],
    ],
)
def test_ids_that_are_only_ids_are_kept_without_a_word(tmp_path: Path, items: list[str]) -> None:
    log = log_of(tmp_path, items=items)
    assert set(log.frame["item_id"]) == set(items)
    assert log.notes == ()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["1.0", "1", "2"], "'1' comes with and without a .0"),
        (["9007199254740993.0", "1.0"], "from 2.53 on cannot hold every whole number"),
        (["1.23E+12", "a"], "line 2 is '1.23E.12', a number that a spreadsheet"),
        (["a", "1e+05"], "line 3 is '1e.05'"),
        (["True", "False"], "line 2 is 'True' .3 such rows.: give the column of ids"),
        (["a", " "], "line 3 has no item_id"),
        (["a", "\\N"], r"line 3 is '\\\\\\\\N', which a program wrote for a missing value"),
        (["a", "#N/A"], "line 3 is '#N/A'"),
        (["a", "x" * 257], "line 3 is longer than 256 bytes"),
    ],
)
def test_ids_that_lost_something_are_refused(
    tmp_path: Path, items: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message.replace("\\\\\\\\", "\\\\")):
        log_of(tmp_path, items=items)


def parquet(folder: Path, **columns: pl.Series) -> Path:
    count = len(next(iter(columns.values())))
    whole = {
        "user_id": pl.Series(["a", "b"] * count)[:count],
        "item_id": pl.Series(["x"] * count),
        "timestamp": pl.Series(range(count)),
    } | columns
    pl.DataFrame(whole).write_parquet(folder / "log.parquet")
    return folder / "log.parquet"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pl.Series([Decimal(2**64), Decimal(1)]), ["1", "18446744073709551616"]),
        (pl.Series([Decimal("12.00"), Decimal("1.00")]), ["1", "12"]),
        (pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), ["a", "b"]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), ["1", "9223372036854775808"]),
        (pl.Series([0.0, -3.0], dtype=pl.Float32), ["-3", "0"]),
    ],
)
def test_numbers_of_any_exact_type_are_their_digits(
    tmp_path: Path, ids: pl.Series, expected: list[str]
) -> None:
    assert sorted(read_log(parquet(tmp_path, user_id=ids)).frame["user_id"]) == expected


def test_numbers_with_fractions_that_are_whole_are_said(tmp_path: Path) -> None:
    log = read_log(parquet(tmp_path, user_id=pl.Series([1.0, 2.0])))
    assert log.notes == ("user_id was stored as Float64, and is read as the same whole numbers",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pl.Series([Decimal("1.50"), Decimal("2.00")])}, "holds fractions"),
        ({"user_id": pl.Series([1.0, float("inf")])}, "cannot hold whole numbers"),
        ({"user_id": pl.Series([1.0, float("nan")])}, "row 2 has no user_id"),
        ({"user_id": pl.Series([date(2024, 1, 1), date(2024, 1, 2)])}, "has the type Date"),
        ({"user_id": pl.Series([None, None])}, "row 1 has no user_id .2 such rows."),
        ({"timestamp": pl.Series([timedelta(1), timedelta(2)])}, "has the type Duration"),
        ({"timestamp": pl.Series([time(1), time(2)])}, "has the type Time"),
        ({"timestamp": pl.Series([2**64 - 1, 1], dtype=pl.UInt64)}, "row 1 is '18446744073709"),
        ({"timestamp": pl.Series([datetime(2024, 1, 1), None])}, "row 2 is missing"),
        (
            {"timestamp": pl.Series([datetime(2024, 1, 1), datetime(1, 1, 1)])},
            "row 2 is '0001-01-01 00:00:00', before 1971 where others",
        ),
    ],
)
def test_types_and_values_that_are_no_ids_or_times_are_refused(
    tmp_path: Path, columns: dict[str, pl.Series], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_log(parquet(tmp_path, **columns))


S = 1_000_000
MAY = 1_717_149_600


@pytest.mark.parametrize(
    ("times", "expected", "note"),
    [
        (["1.7e+09", "1700000001"], [1_700_000_000, 1_700_000_001], ""),
        (["1.700000000e+09", "1.700000001e+09"], [1_700_000_000, 1_700_000_001], ""),
        (
            ["1700000000123456789", "1700000000123456788.0"],
            [17 * 10**17 + 123456788 + n for n in (0, 1)],
            "",
        ),
        (["1700000000.5", "1700000000.25"], [1_700_000_000_250_000, 1_700_000_000_500_000], ""),
        (
            ["2024-05-31 10:00:00.5+00", "2024-05-31 10:00:00+0530"],
            [(MAY - 19_800) * S, MAY * S + 500_000],
            "",
        ),
        (["2024-05-31 10:00:00 UTC", "2024-05-31T10:00:01 GMT"], [MAY * S, (MAY + 1) * S], ""),
        (
            ["2024-05-31T10:00:00Z", "2024-05-31T10:00:01"],
            [MAY * S, (MAY + 1) * S],
            "1 of 3 times have no zone",
        ),
        (["45443.5", "45444"], [45_443_500_000, 45_444_000_000], "look like days of a spreadsheet"),
        (["45443", "45444"], [45_443, 45_444], "look like days of a spreadsheet"),
        (
            ["2024-05-31", "2999-12-31"],
            [1_717_113_600 * S, 32_503_593_600 * S],
            "1 of 3 times lie in the future",
        ),
        (["1", "2"], [1, 2], ""),
        (["20240531", "20240601"], [20_240_531, 20_240_601], ""),
    ],
)
def test_times_of_every_kind_keep_their_order(
    tmp_path: Path, times: list[str], expected: list[int], note: str
) -> None:
    log = log_of(tmp_path, times=times)
    assert sorted(set(log.frame["timestamp"])) == expected
    assert bool(log.notes) == bool(note)
    assert all(note in said for said in log.notes)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["1.7E+09", "1.71E+09"], "line 2 is '1.7E.09', a number that a spreadsheet.*rounded"),
        (["1700000000", "1700000000000"], "mixes seconds and milliseconds.*in line 2.*in line 3"),
        (["1700000000000", "1700000000000000"], "mixes milliseconds and microseconds"),
        (["31/05/2024", "01/06/2024"], "take the day for the month"),
        (["31.05.2024 10:00", "01.06.2024 10:00"], "take the day for the month"),
        (["5/31/2024 3:04 PM", "6/1/2024 3:04 PM"], "take the day for the month"),
        (["24-05-31", "24-06-01"], "whole year first"),
        (["1,700,000,000", "1,700,000,001"], "without thousands separators"),
        (["9223372036854775808", "1"], "line 2 is '9223372036854775808'"),
        (["1700000000", "0"], "line 3 is '0', before 1971 where others are after 1980"),
        (["2024-05-31", "1970-01-01"], "line 3 is '1970-01-01', before 1971"),
        (["2024-05-31", "1717113600"], "line 3 is '1717113600'"),
    ],
)
def test_times_that_lost_their_order_or_meaning_are_refused(
    tmp_path: Path, times: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        log_of(tmp_path, times=times)
