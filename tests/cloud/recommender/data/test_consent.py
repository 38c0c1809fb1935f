"""The optional column of consent: what it may hold, and whom it leaves out."""

import polars as pl
import pytest

from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.column_names import parse_columns
from cloud_service.recommender.data.log import read_log
from cloud_service.recommender.training.sample import sampled
from shared.errors import DataError

USERS = ("ann", "bob", "cid", "dan")


def rows(answers):
    """Five clicks of each user; `answers` are the fields of consent by user."""
    return [
        (user, f"i{(index + 2 * step) % 6}", step, answers[user][step % len(answers[user])])
        for index, user in enumerate(USERS)
        for step in range(5)
    ]


def csv(folder, answers, name="agreed"):
    path = folder / "log.csv"
    lines = [",".join(map(str, row)) for row in rows(answers)]
    path.write_text("\n".join([f"user_id,item_id,timestamp,{name}", *lines]) + "\n")
    return path


def agreed(path, columns=None):
    log = load(path, folder=path.parent, columns=columns)
    if log.agreed is None:
        return None
    return dict(zip(log.user_ids, log.agreed.tolist(), strict=True))


def test_a_user_agrees_with_every_row_or_not_at_all(tmp_path):
    answers = {
        "ann": ["1"],
        "bob": ["1", "1", "0"],
        "cid": ["yes", "TRUE", " t "],
        "dan": ["1", ""],
    }
    assert agreed(csv(tmp_path, answers)) == {"ann": True, "bob": False, "cid": True, "dan": False}


def test_a_log_without_the_column_says_nothing_of_consent(tmp_path):
    path = csv(tmp_path, dict.fromkeys(USERS, ("1",)), name="opinion")
    assert agreed(path) is None
    assert read_log(path).frame.columns == ["user_id", "item_id", "timestamp"]


def test_a_column_of_another_name_is_named(tmp_path):
    path = csv(tmp_path, dict.fromkeys(USERS, ("y",)), name="may share")
    assert parse_columns("agreed=may share") == {"agreed": "may share"}
    assert agreed(path, "agreed=may share") == dict.fromkeys(USERS, True)
    with pytest.raises(DataError, match="no column sharing"):
        agreed(path, "agreed=sharing")


@pytest.mark.parametrize("field", ["2", "perhaps", "-1", "1e0", "'1'"])
def test_an_answer_that_is_neither_yes_nor_no_is_refused_by_its_line(tmp_path, field):
    answers = dict.fromkeys(USERS, ("1",)) | {"bob": ["0", field]}
    with pytest.raises(DataError, match=r"line 8 has .* neither yes nor no"):
        agreed(csv(tmp_path, answers))


def test_the_column_twice_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp,agreed,agreed\na,i,1,1,0\n")
    with pytest.raises(DataError, match="agreed twice"):
        read_log(path)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([True, None], dtype=pl.Boolean),
        pl.Series([1, 0], dtype=pl.Int8),
        pl.Series([1.0, float("nan")], dtype=pl.Float64),
        pl.Series(["yes", "no"]),
    ],
)
def test_every_usual_type_of_parquet_is_read(tmp_path, column):
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": [1, 2] * 3, "item_id": [1, 1, 2, 2, 3, 3],
                          "timestamp": [1, 1, 2, 2, 3, 3]})  # fmt: skip
    frame.with_columns(agreed=pl.concat([column] * 3)).write_parquet(path)
    assert agreed(path) == {"1": True, "2": False}


def test_a_type_that_cannot_be_an_answer_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "timestamp": [1, 2],
                  "agreed": [[1], [0]]}).write_parquet(path)  # fmt: skip
    with pytest.raises(DataError, match="make it true or false"):
        read_log(path)


def test_consent_stays_with_its_user_through_filters_and_samples(tmp_path):
    answers = dict.fromkeys(USERS, ("1",)) | {"bob": ("0",), "dan": ("0",)}
    path = csv(tmp_path, answers)
    with path.open("a") as file:
        file.write("aaa,i1,1,1\n")  # too few clicks: this user is filtered out
    log = load(path, folder=tmp_path)
    assert dict(zip(log.user_ids, log.agreed.tolist(), strict=True)) == {
        user: answers[user] == ("1",) for user in USERS
    }
    some = sampled(log, 10, seed=1)
    assert some.user_count == 2
    assert some.agreed.tolist() == [answers[user] == ("1",) for user in some.user_ids]


def test_consent_changes_nothing_of_what_is_trained_on(tmp_path):
    plain = load(csv(tmp_path, dict.fromkeys(USERS, ("1",)), name="x"), folder=tmp_path)
    asked = load(csv(tmp_path, dict.fromkeys(USERS, ("0",))), folder=tmp_path)
    assert plain.digest() == asked.digest()
    assert split(plain).description == split(asked).description
