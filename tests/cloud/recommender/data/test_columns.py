"""Which columns are read, and what is proposed where that is not clear."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cloud_service.recommender.data.column_names import parse_columns
from cloud_service.recommender.data.log import match_titles, read_log, read_titles
from cloud_service.recommender.recipe import TrainingRecipe
from shared.errors import DataError


def file(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def told(folder: Path, header: str) -> str:
    """What a log with this first line is told."""
    with pytest.raises(DataError) as caught:
        read_log(file(folder, f"{header}\n"))
    return caught.value.detail


SETS = {
    "MovieLens": "userId,movieId,rating,timestamp\n1,31,2.5,9\n1,32,3,8\n2,31,4,7\n",
    "RetailRocket": (
        "timestamp,visitorid,event,itemid,transactionid\n9,1,view,31,\n8,1,view,32,\n7,2,view,31,\n"
    ),
    "REES46": (
        "event_time,event_type,product_id,category_id,user_id,user_session\n"
        "9,view,31,4,1,a\n8,view,32,4,1,a\n7,view,31,4,2,b\n"
    ),
    "Amazon": "reviewerID,asin,overall,unixReviewTime\n1,31,5,9\n1,32,5,8\n2,31,5,7\n",
    "RecBole": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t31\t2.5\t9\n1\t32\t3\t8\n2\t31\t4\t7\n",
}


@pytest.mark.parametrize("case", SETS)
def test_the_columns_of_well_known_sets_are_read_and_said(tmp_path: Path, case: str) -> None:
    log = read_log(file(tmp_path, SETS[case]))
    assert log.frame.rows() == [("1", "32", 8), ("1", "31", 9), ("2", "31", 7)]
    assert "read as" in log.description
    assert log.notes == ()


def test_a_set_of_hm_keeps_the_zeros_of_its_articles(tmp_path: Path) -> None:
    text = "t_dat,customer_id,article_id\n2018-09-20,a,0663\n2018-09-20,b,0663\n2018-09-21,b,0541\n"
    assert read_log(file(tmp_path, text)).frame["item_id"].to_list() == ["0663", "0663", "0541"]


@pytest.mark.parametrize(
    ("header", "steps"),
    [
        ("user_id,thing,rating,timestamp", "user=user_id,item=NAME,time=timestamp"),
        ("customer,sku,when", "user=customer,item=sku,time=NAME"),
        ("user_id,item_id,date of click", '"user=user_id,item=item_id,time=date of click"'),
        ("buyer,category_id,created", "user=buyer,item=NAME,time=NAME"),
        ("user_id,productName,productId,timestamp", "user=user_id,item=NAME,time=timestamp"),
        ("user_id,itme_id,timestamp", "user=user_id,item=itme_id,time=timestamp"),
        ("item_id,timestamp,rating", "user=NAME,item=item_id,time=timestamp"),
    ],
)
def test_what_is_missing_is_proposed_only_where_a_name_points_to_it(
    tmp_path: Path, header: str, steps: str
) -> None:
    assert told(tmp_path, header).endswith(f"say which is which with --columns {steps}.")


def test_a_wanted_name_is_never_to_be_renamed(tmp_path: Path) -> None:
    for header in ("user_id,thing,timestamp", "item_id,timestamp,note", "timestamp,user_id,x"):
        assert "rename" not in told(tmp_path, header)
    with pytest.raises(DataError, match="rename 'titel' to title"):
        read_titles(file(tmp_path, "item_id,titel\n1,a\n"))


def test_columns_that_may_both_be_it_are_listed(tmp_path: Path) -> None:
    said = told(tmp_path, "user_id,movieId,product_id,timestamp")
    assert "no column item_id but several that may be it (movieId, product_id)" in said


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("1,2268318,2520377,pv,1511544070", "user_id,item_id,category_id,behavior,timestamp"),
        ("196\t242\t3\t881250949", "user_id, item_id, rating and timestamp"),
        ("1::1193::5::978300760", "double colons, as MovieLens has them"),
        ("a7,12,1511544070", "add the line user_id,item_id,timestamp"),
    ],
)
def test_data_in_the_first_line_is_known_as_such(tmp_path: Path, line: str, advice: str) -> None:
    said = told(tmp_path, f"{line}\n{line}")
    assert "the first line must name the columns" in said
    assert advice in said


@pytest.mark.parametrize(
    "text",
    [
        "user",
        "user=",
        "=a",
        "who=a",
        "user=a,user=b",
        "user=a,item=a",
        "",
        "user=a,",
        "user=a;item=b",
    ],
)
def test_a_choice_that_is_not_one_is_refused_wherever_it_is_given(text: str) -> None:
    if text != "user=a;item=b":
        with pytest.raises(DataError, match="columns: "):
            parse_columns(text)
        with pytest.raises(ValidationError, match="give user=NAME,item=NAME,time=NAME"):
            TrainingRecipe(columns=text)
    else:
        assert parse_columns(text) == {"user_id": "a;item=b"}


def test_a_choice_names_columns_and_the_rest_have_their_usual_names(tmp_path: Path) -> None:
    text = "who,item_id,timestamp,user_id\n1,31,9,x\n1,32,8,x\n2,31,7,x\n"
    log = read_log(file(tmp_path, text), " user = who ")
    assert log.frame["user_id"].to_list() == ["1", "1", "2"]
    assert log.description == "column who read as user_id"
    with pytest.raises(DataError, match="no column whom: it has 'who'"):
        read_log(file(tmp_path, text), "user=whom")


def test_a_column_that_is_given_is_not_taken_for_another(tmp_path: Path) -> None:
    text = "customer_id,user,itemid,timestamp\n31,1,5,9\n32,1,5,8\n31,2,5,7\n"
    log = read_log(file(tmp_path, text), "item=customer_id")
    assert log.frame.rows() == [("1", "32", 8), ("1", "31", 9), ("2", "31", 7)]


def test_an_item_file_may_name_its_items_as_the_log_does(tmp_path: Path) -> None:
    columns = "item=sku"
    assert read_titles(file(tmp_path, "sku,title\n1,a\n"), columns).titles == {"1": "a"}
    assert read_titles(file(tmp_path, "item_id,title\n1,a\n"), columns).titles == {"1": "a"}
    with pytest.raises(DataError, match="no column item_id"):
        read_titles(file(tmp_path, "stuff,title\n1,a\n"), columns)


@pytest.mark.parametrize(
    ("item", "title", "reason"),
    [
        ("0100", "100", "zeros in front"),
        ("A-1", "a-1", "capitals"),
        ("100", "100.0", "a .0 behind"),
        ("caf\u00e9", "cafe\u0301", "how their letters are composed"),
        ("1234", "1,234", "thousands separators"),
        ("0100", "'0100", "quotes"),
    ],
)
def test_titles_of_no_item_show_what_tells_the_ids_apart(
    tmp_path: Path, item: str, title: str, reason: str
) -> None:
    log = read_log(file(tmp_path, f'user_id,item_id,timestamp\na,"{item}",1\nb,"{item}",2\n'))
    names = read_titles(
        file(tmp_path, f'item_id,title\nzzz,z\n"{title}",lamp\n1.5,y\n', "names.csv")
    )
    with pytest.raises(DataError, match=f"names.csv: no title is of an item.*{reason}") as caught:
        match_titles(tmp_path / "names.csv", names.titles, log.frame["item_id"])
    assert repr(item) in caught.value.detail
    assert repr(title) in caught.value.detail
    some = dict(names.titles) | {"other": "o"}
    items = log.frame["item_id"].append(log.frame["item_id"].clear().extend_constant("other", 1))
    (note,) = match_titles(tmp_path / "names.csv", some, items)
    assert note.startswith("1 of 2 items (50.0%) have a title in names.csv: ")
    assert reason in note
