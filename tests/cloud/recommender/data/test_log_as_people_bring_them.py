"""Faults that spreadsheets, databases and dataframes put into a log: every row, or a reason."""

import csv as standard
import gzip
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_service.recommender.data.log import match_titles, read_log, read_titles
from shared.errors import DataError

HEAD = "user_id,item_id,timestamp"
CLICKS = [("u1", "i1", 1), ("u1", "i2", 2), ("u1", "i1", 5), ("u2", "i1", 3), ("u2", "i2", 4)]
PLAIN = f"{HEAD}\nu1,i1,1\nu1,i2,2\nu2,i1,3\nu2,i2,4\nu1,i1,5\n"


def file(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


SAME_CLICKS = {
    "a quote within an ignored field": (
        f'{HEAD},query\nu1,i1,1,20" tv\nu1,i2,2,shoes\nu2,i1,3,24" tv\nu2,i2,4,shoes\nu1,i1,5,s\n'
    ),
    "a quoted field with a line break, and a quote within another": (
        f'{HEAD},query\nu1,i1,1,"two\nlines"\nu1,i2,2,\nu2,i1,3,24" tv\nu2,i2,4,\n'
        'u1,i1,5,"a ""b"""\n'
    ),
    "carriage returns alone": PLAIN.replace("\n", "\r"),
    "carriage returns and line feeds": PLAIN.replace("\n", "\r\n"),
    "a comma at the end of every line": PLAIN.replace("\n", ",\n"),
    "no line end at the end": PLAIN.rstrip("\n"),
    "empty lines before the header": "\n\n" + PLAIN,
    "a byte order mark": "\ufeff" + PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "blanks around names and values": PLAIN.replace(",", " , "),
    "names of MovieLens": PLAIN.replace(HEAD, "userId,movieId,timestamp"),
    "names of RetailRocket": PLAIN.replace(HEAD, "visitorid,itemid,timestamp"),
    "a name of RetailRocket and our own": PLAIN.replace(HEAD, "visitorid,item_id,timestamp"),
    "names of H&M": PLAIN.replace(HEAD, "customer_id,article_id,t_dat"),
    "names of REES46": PLAIN.replace(HEAD, "user_id,product_id,event_time"),
    "names of Amazon's reviews until 2018": PLAIN.replace(HEAD, "reviewerID,asin,unixReviewTime"),
    "names of RecBole": PLAIN.replace(HEAD, "user_id:token,item_id:token,timestamp:float"),
    "names with blanks and capitals": PLAIN.replace(HEAD, "User ID,Item ID,Timestamp"),
}
SAME_CLICKS["a comma at the end of every row"] = HEAD + PLAIN[len(HEAD) :].replace(
    "\n", ",\n"
).removeprefix(",")
SAME_CLICKS["quotes around every field"] = "".join(
    ",".join(f'"{field}"' for field in line.split(",")) + "\n" for line in PLAIN.splitlines()
)


@pytest.mark.parametrize("case", SAME_CLICKS)
def test_the_same_clicks_are_read_however_they_are_written(tmp_path: Path, case: str) -> None:
    assert read_log(file(tmp_path, SAME_CLICKS[case])).frame.rows() == CLICKS


def test_amazons_product_wins_over_its_variant(tmp_path: Path) -> None:
    text = "user_id,asin,parent_asin,timestamp\na,v1,p,1\na,v2,p,2\nb,v3,q,3\nb,v4,p,4\n"
    log = read_log(file(tmp_path, text))
    assert log.frame["item_id"].to_list() == ["p", "p", "q", "p"]
    assert log.description == "column parent_asin read as item_id"


def test_columns_of_any_name_are_read_when_they_are_named(tmp_path: Path) -> None:
    path = file(tmp_path, PLAIN.replace(HEAD, "who,timestamp,when"))
    assert read_log(path, "user=who, item=timestamp,time=when").frame.rows() == CLICKS


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("user=nobody", "no column nobody: it has 'user_id'"),
        ("customer=user_id", "'customer=user_id' is none of user=NAME"),
        ("user=", "is none of"),
        ("user=user_id,user=item_id", "twice"),
        ("user=user_id,item=user_id", "twice"),
    ],
)
def test_a_choice_of_columns_that_makes_no_sense_is_refused(
    tmp_path: Path, columns: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_log(file(tmp_path, PLAIN), columns)


def test_a_column_that_is_wanted_itself_is_never_proposed_for_another(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_log(file(tmp_path, "user_id,thing,rating,timestamp\n1,31,2.5,1\n"))
    assert "rename 'user_id'" not in caught.value.detail
    assert "no column item_id" in caught.value.detail
    assert "--columns user=user_id,item=NAME,time=timestamp" in caught.value.detail


def test_every_missing_column_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no columns user_id, item_id and timestamp"):
        read_log(file(tmp_path, "a1,b2,c3\nx,y,1\n"))


def test_a_file_without_a_header_is_told_to_add_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add the line user_id,item_id,timestamp"):
        read_log(file(tmp_path, "196\t242\t881250949\n186\t302\t891717742\n"))


def test_two_columns_that_may_both_be_the_items_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column item_id"):
        read_log(file(tmp_path, "user_id,movieId,product_id,timestamp\n1,2,3,4\n"))


@pytest.mark.parametrize(
    "padding", [b"\0" * 7, gzip.compress(b"u1,i1,6\n", mtime=0)], ids=["zeros", "member"]
)
def test_a_gzip_file_may_end_in_zeros_or_have_several_members(
    tmp_path: Path, padding: bytes
) -> None:
    path = file(tmp_path, gzip.compress(PLAIN.encode()) + padding, "log.csv.gz")
    assert read_log(path).frame.height == (5 if padding[0] == 0 else 6)


BROKEN = {
    "a quote that does not close": (PLAIN + 'u2,"i1,6\nu1,i2,7\n', "line 7.*check its quotes"),
    "text after a closing quote": (PLAIN + 'u2,"i1"x,6\n', "line 7.*check its quotes"),
    "more fields than names": (PLAIN + "u2,i1,6,7\n", "line 7 has more fields"),
    "a carriage return within a line": (
        PLAIN + "u2,i\r1,6\n",
        "line 7 has 2 of the header's 3 fields",
    ),
    "the header again": (PLAIN + HEAD + "\n", "line 7 repeats the header"),
    "a spreadsheet's long ids": (PLAIN + "u2,1.23E+12,6\n", "line 7 is '1.23E.12'.*rounded"),
    "a spreadsheet's long times": (PLAIN + "u2,i1,1.7E+09\n", "line 7 is '1.7E.09'.*rounded"),
    "a dataframe's missing user": (PLAIN + "nan,i1,6\n", "user_id of line 7 is 'nan'"),
    "a database's missing item": (PLAIN + "u2,NULL,6\n", "item_id of line 7 is 'NULL'"),
    "one item as 7 and as 7.0": (PLAIN + "u2,7.0,6\nu2,7,7\n", "'7' comes with and without a .0"),
    "seconds and milliseconds": (
        f"{HEAD}\na,x,1700000000\na,y,1700000001\nb,x,1700000000000\n",
        "mixes seconds and milliseconds.*1700000000 in line 2.*1700000000000 in line 4",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_rightly_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    content, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        read_log(file(tmp_path, content))


def parquet(folder: Path, **columns: pl.Series) -> Path:
    count = len(next(iter(columns.values())))
    whole = {
        "user_id": pl.Series(["a", "b"] * count)[:count],
        "item_id": pl.Series(["x"] * count),
        "timestamp": pl.Series(range(count)),
    } | columns
    path = folder / "log.parquet"
    pl.DataFrame(whole).write_parquet(path)
    return path


REFUSED = {
    "floats from 2^53 on": (
        "user_id",
        pl.Series([2.0**53 + 2, 2.0**53 + 4]),
        "from 2.53 on exactly .the largest here is 9007199254740996",
    ),
    "small floats from 2^24 on": (
        "item_id",
        pl.Series([2.0**24, 1.0], dtype=pl.Float32),
        "from 2.24 on exactly .the largest here is 16777216",
    ),
    "fractions": ("item_id", pl.Series([1.5, 2.0]), "holds fractions .Float64."),
    "truth values": ("item_id", pl.Series([True, False]), "has the type Boolean"),
    "lists": ("user_id", pl.Series([[1], [2]]), "has the type List"),
    "small floats as times": (
        "timestamp",
        pl.Series([1.7e9, 1.7e9], dtype=pl.Float32),
        "only to the minute",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_type_that_cannot_hold_the_value_exactly_is_refused(tmp_path: Path, case: str) -> None:
    column, values, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_log(parquet(tmp_path, **{column: values}))


@pytest.mark.parametrize(
    "ids", [pl.Series([2.0**53 - 1, 7.0]), pl.Series([2**64 - 1, 7], dtype=pl.UInt64)]
)
def test_numbers_that_are_exact_become_their_digits(tmp_path: Path, ids: pl.Series) -> None:
    users = read_log(parquet(tmp_path, user_id=ids)).frame["user_id"].to_list()
    assert sorted(users) == sorted(str(int(value)) for value in ids)


def test_ids_that_a_dataframe_made_floats_are_whole_again_on_both_sides(tmp_path: Path) -> None:
    log = read_log(file(tmp_path, f"{HEAD}\nu1,100.0,0\nu1,101.0,1\nu2,100.0,0\n"))
    assert sorted(set(log.frame["item_id"])) == ["100", "101"]
    assert any("every item_id ended in .0" in note for note in log.notes)
    titles = read_titles(file(tmp_path, "item_id,title\n100.0,lamp\n101.0,chair\n", "items.csv"))
    assert titles.titles == {"100": "lamp", "101": "chair"}


def test_versions_are_no_floats(tmp_path: Path) -> None:
    log = read_log(file(tmp_path, f"{HEAD}\nu1,1.0,0\nu1,1.5,1\nu2,1.0,0\n"))
    assert sorted(set(log.frame["item_id"])) == ["1.0", "1.5"]


def test_ids_that_differ_in_case_alone_are_said(tmp_path: Path) -> None:
    log = read_log(file(tmp_path, f"{HEAD}\nu1,abc,0\nu1,ABC,1\nu2,abc,0\n"))
    assert len(set(log.frame["item_id"])) == 2
    assert any("only in capitals" in note for note in log.notes)


@pytest.mark.parametrize("missing", ["0", "-1", "3600"])
def test_times_that_stand_for_none_are_refused(tmp_path: Path, missing: str) -> None:
    path = file(tmp_path, f"{HEAD}\na,x,1700000000\na,y,1700000009\nb,x,{missing}\n")
    with pytest.raises(DataError, match=f"line 4 is '{missing}', before 1971 where others"):
        read_log(path)


def test_times_of_rees46_are_read(tmp_path: Path) -> None:
    text = f"{HEAD}\na,x,2019-10-01 00:00:02 UTC\na,y,2019-10-01 00:00:01 UTC\nb,x,2019-10-01\n"
    assert read_log(file(tmp_path, text)).frame["item_id"].to_list() == ["y", "x", "x"]


def test_titles_with_a_quote_in_a_field_that_is_not_read_all_count(tmp_path: Path) -> None:
    text = 'item_id,title,note\n0101,lamp,20" wide\n0102,chair,plain\n0103,table,24" wide\n'
    titles = read_titles(file(tmp_path, text)).titles
    assert titles == {"0101": "lamp", "0102": "chair", "0103": "table"}


@pytest.mark.parametrize("text", ["movieId,title,genres\n1,A,B\n", "item_id;title\n1;A\n"])
def test_titles_of_known_sets_and_other_separators_are_read(tmp_path: Path, text: str) -> None:
    assert read_titles(file(tmp_path, text)).titles == {"1": "A"}


def test_titles_of_no_item_are_refused_with_an_id_of_each_side(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'0100'.*'100'.*zeros in front"):
        match_titles(tmp_path / "items.csv", {"100": "lamp"}, pl.Series(["0100", "0101"]))
    with pytest.raises(DataError, match=r"'a'.*'z'.*same catalogue"):
        match_titles(tmp_path / "items.csv", {"z": "lamp"}, pl.Series(["a", "b"]))


def test_titles_of_some_items_say_their_share(tmp_path: Path) -> None:
    assert match_titles(tmp_path, {"a": "lamp"}, pl.Series(["a", "b"])) == (
        f"1 of 2 items (50.0%) have a title in {tmp_path.name}: 'b' has none",
    )
    assert match_titles(tmp_path, {"a": "lamp", "b": "chair"}, pl.Series(["a", "b"])) == ()


FIELD = st.text(st.sampled_from("ab\" ,;\n'0."), max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD), min_size=2, max_size=8), st.booleans())
def test_any_row_that_the_standard_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[str, str]], quoted: bool
) -> None:
    buffer = io.StringIO(newline="")
    writer = standard.writer(
        buffer, quoting=standard.QUOTE_ALL if quoted else standard.QUOTE_MINIMAL
    )
    writer.writerow(["note", "user_id", "item_id", "timestamp", "other"])
    for number, (note, other) in enumerate(notes):
        writer.writerow([note, f"u{number % 2}", "x", number, other])
    path = file(tmp_path_factory.mktemp("csv"), buffer.getvalue().replace("\r\n", "\n"))
    assert sorted(read_log(path).frame["timestamp"]) == list(range(len(notes)))


@settings(deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_rows_that_nobody_quoted_are_all_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[str, str]]
) -> None:
    lines = [
        f"u{number % 2},x,{number}," + "".join(note).replace("\n", "").replace(",", "")
        for number, note in enumerate([*notes, ("", "")])
    ]
    path = file(tmp_path_factory.mktemp("csv"), f"{HEAD},note\n" + "\n".join(lines))
    try:
        times = sorted(read_log(path).frame["timestamp"])
    except DataError:
        return
    assert times == list(range(len(lines)))
