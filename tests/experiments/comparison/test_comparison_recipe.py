"""What an evaluation is asked for: read, merged and refused before anything is done."""

import sys

import pytest

from cloud_service.recommender.recipe import DATA_FIELDS, OPTIONS, POOL_FIELDS, TRAINING_FIELDS
from experiments.comparison.comparison_recipe import parse, read, read_toml
from experiments.comparison.datasets import open_data
from experiments.comparison.names import names_of
from experiments.comparison.plan import cells
from experiments.learning.recipe import parse_learning
from shared.errors import DataError, InvalidRequest
from shared.model import ModelSettings
from tests.conftest import ROOT

DATA = [{"data": "synthetic"}]
SCN = [{"network": "scn"}]


def planned(values, overrides=None):
    found = cells(parse({"datasets": DATA, "models": SCN} | values, "recipe"), overrides)
    return {(cell.model.name, cell.dataset.name): cell for cell in found}


def test_every_field_is_a_training_option_or_belongs_elsewhere():
    elsewhere = {*DATA_FIELDS, *POOL_FIELDS, "network", "model", "seed"}
    names = {*OPTIONS, *ModelSettings.model_fields}
    assert set(TRAINING_FIELDS) | elsewhere == names
    assert set(DATA_FIELDS) <= names
    assert len(TRAINING_FIELDS) == len(set(TRAINING_FIELDS))


def test_the_more_special_option_wins_and_the_command_line_over_all():
    values = {
        "epochs": 3,
        "length": 20,
        "dropout": 0.5,
        "datasets": [{"data": "synthetic", "length": 30, "epochs": 4}, {"data": "movielens-100k"}],
        "models": [{"network": "scn", "epochs": 5, "on": {"synthetic": {"epochs": 6}}}],
    }
    here = planned(values, {"dropout": 0.1})["scn", "synthetic"].training({}, 7)
    assert (here.optimisation.epochs, here.network.model.length) == (6, 30)
    assert (here.optimisation.dropout, here.optimisation.seed) == (0.1, 7)
    there = planned(values)["scn", "movielens-100k"].training({}, 0)
    assert (there.optimisation.epochs, there.network.model.length) == (5, 20)
    assert there.optimisation.dropout == 0.5


def test_a_grid_is_every_combination_and_the_nearest_one_counts():
    grid = {"learning_rate": [0.1, 0.2], "dropout": [0.0, 0.3]}
    values = {
        "grid": grid,
        "models": [*SCN, {"name": "tuned", "network": "scn", "grid": {"dim": [16, 32, 64, 128]}}],
    }
    found = planned(values)
    assert [tuple(p.values()) for p in found["scn", "synthetic"].points] == [
        (0.1, 0.0), (0.1, 0.3), (0.2, 0.0), (0.2, 0.3)
    ]  # fmt: skip
    assert [p["dim"] for p in found["tuned", "synthetic"].points] == [16, 32, 64, 128]
    point = found["tuned", "synthetic"].points[1]
    assert found["tuned", "synthetic"].training(point, 0).network.model.dim == 32


def test_what_counts_instead_of_training_is_not_searched_and_takes_one_seed():
    values = {"seeds": 3, "grid": {"dropout": [0.1, 0.2]}}
    found = planned(values | {"models": [*SCN, {"network": "popularity"}]})
    assert len(found["popularity", "synthetic"].points) == 1
    assert found["popularity", "synthetic"].seeds == (0,)
    assert found["scn", "synthetic"].seeds == (0, 1, 2)


def test_every_model_gets_the_same_number_of_points_unless_told_otherwise():
    models = [{"network": "scn", "grid": {"dropout": [0.1, 0.2]}}, {"network": "scn+gcn"}]
    with pytest.raises(InvalidRequest, match=r"not searched alike \(points: scn 2, scn\+gcn 1\)"):
        planned({"models": models})
    assert planned({"models": models, "uneven_search": True})


def test_seeds_are_a_number_or_a_list():
    assert parse({"datasets": DATA, "models": SCN, "seeds": 3}, "r").seeds == (0, 1, 2)
    assert parse({"datasets": DATA, "models": SCN, "seeds": [7, 1]}, "r").seeds == (7, 1)


def test_paths_are_relative_to_the_file_and_names_are_not_paths(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[[datasets]]\ndata = "logs/shop.csv.gz"\n[[datasets]]\ndata = "online-retail"\n'
        '[[models]]\nnetwork = "scn"\n'
    )
    shop, retail = read(path).datasets
    assert (shop.name, shop.data) == ("shop", str(tmp_path / "logs" / "shop.csv.gz"))
    assert (retail.name, retail.data) == ("online-retail", "online-retail")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"models": [{"network": "sasrek"}]}, "no network sasrek: did you mean sasrec?"),
        ({"models": [{"network": "scn"}, {"name": "scn", "network": "mf"}]}, "two models are name"),
        ({"datasets": DATA + DATA}, "two data sets are named synthetic: give one another name"),
        ({"models": []}, "at least one model is needed"),
        ({"datasets": []}, "at least one data set is needed"),
        ({"datasets": [{"min_item": 3}]}, "datasets.0: a data set needs data"),
        ({"datasets": [{"data": "x", "min_itm": 3}]}, "no key min_itm: did you mean min_item?"),
        ({"datasets": [{"data": "x", "min_user": 2}]}, "min_user: Input should be greater"),
        ({"lerning_rate": 0.1}, "there is no key lerning_rate: did you mean learning_rate?"),
        ({"training": {"epochs": 1}}, "there is no key training"),
        ({"seed": 3}, "there is no key seed: did you mean seeds?"),
        ({"seeds": 0}, "at least one seed is needed"),
        ({"seeds": []}, "at least one seed is needed"),
        ({"seeds": [1, 1]}, "a seed is named twice"),
        ({"seeds": True}, "seeds"),
        ({"grid": {}}, "an empty grid searches nothing"),
        ({"grid": {"dropout": []}}, "dropout needs a list of at least one value"),
        ({"grid": {"dropout": 0.5}}, "dropout needs a list of at least one value"),
        ({"grid": {"dropout": [0.5, 0.5]}}, "dropout holds a value twice"),
        ({"grid": {"droput": [0.5]}}, "there is no option droput: did you mean dropout?"),
        ({"grid": {"learning_rate": [0]}}, "scn on synthetic: learning_rate: Input should be g"),
        ({"grid": {"dropout": [0.1]}, "models": [{"network": "scn", "dropout": 0.5}]}, "leave one"),
        ({"models": [{"network": "scn", "dim": 10}]}, "must split into 4 heads"),
        ({"models": [{"network": "scn", "on": {"beauty": {}}}]}, "no data set beauty"),
        ({"models": [{"network": "scn", "name": "a/b"}]}, "the name 'a/b' is not one"),
        ({"reference": "scm"}, "reference: no row scm: did you mean scn?"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_with_the_nearest_name(values, reason):
    with pytest.raises(InvalidRequest) as refused:
        planned(values)
    assert reason in refused.value.detail
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_ready_recipe_is_one(path):
    if path.stem == "learning":
        recipe = parse_learning(read_toml(path), path.name, path.parent)
        bundles = [recipe.bundle_recipe(dataset, 0, {}) for dataset in recipe.datasets]
        assert all(bundle.network.model.gcn == "projected" for bundle in bundles)
    else:
        assert cells(read(path))


def test_a_data_set_that_is_not_asked_for_may_be_missing(clicks_file, tmp_path):
    datasets = [{"data": str(clicks_file)}, {"data": str(tmp_path / "gone.csv")}]
    recipe = parse({"datasets": datasets, "models": SCN}, "recipe")
    (facts,) = open_data(recipe, tmp_path, {"clicks"})
    assert (facts.name, facts.users) == ("clicks", 150)
    with pytest.raises(DataError, match="there is no file"):
        open_data(recipe, tmp_path)


@pytest.fixture
def in_process(monkeypatch, capsys):
    from cloud_service.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cloud-service", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name a recipe, or --data and --models"),
        (["--data", "sintetic", "--models", "scn"], "did you mean 'synthetic'?"),
        (["--data", "DIR/cliks.csv", "--models", "scn"], "did you mean clicks.csv?"),
        (["--data", "/nowhere/clicks.csv", "--models", "scn"], "there is no file /nowhere/clicks"),
        (["--data", "DIR/damaged.csv", "--models", "scn"], "damaged.csv"),
        (["--data", "DIR/clicks.csv", "--models", "gru4rek"], "did you mean gru4rec?"),
        (["--data", "DIR/clicks.csv", "--models", "scn,scn"], "two models are named scn"),
        (["--data", "DIR/clicks.csv", "--models", "scn", "--seeds", "0"], "--seeds must be at"),
        (["--data", "DIR/clicks.csv", "--models", "scn", "--grid", "droput=1"], "mean dropout?"),
        (["--data", "DIR/clicks.csv", "--models", "scn", "--grid", "dropout="], "needs a list"),
        (["--data", "DIR/clicks.csv", "--models", "scn", "--epochs", "0"], "epochs: Input should"),
        (["DIR/nothing.toml"], "nothing.toml cannot be read: No such file"),
        (["DIR"], "cannot be read: Is a directory"),
        (["DIR/clicks.csv"], "clicks.csv is not TOML"),
        (["DIR/small.toml", "--models", "corected"], "no model corected: did you mean corrected?"),
        (["DIR/small.toml", "--data", "smal"], "no data set smal: did you mean small?"),
        (["DIR/small.toml", "--min-item", "3"], "--min-item belongs to a data set"),
        (["DIR/small.toml", "--data", "small", "--data", "DIR/clicks.csv"], "not both"),
        (["DIR/small.toml", "--data", "DIR/cliks.csv"], "did you mean clicks.csv?"),
        (["DIR/small.toml", "--learning-rate", "0.1"], "given a value and searched by the grid"),
    ],
)
def test_a_mistake_is_one_clear_line_before_any_work(
    in_process, recipe_file, tmp_path, words, reason
):
    folder = recipe_file.parent
    (folder / "damaged.csv").write_text("user_id,item_id\n1,2\n")
    words = [word.replace("DIR", str(folder)) for word in words]
    code, said = in_process("evaluate", *words, "--out", tmp_path / "out")
    assert code == 2
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_logs_of_one_name_in_two_folders_are_told_apart_by_their_folders():
    assert names_of(["may/clicks.csv", "june/clicks.csv.gz", "orders.parquet"]) == [
        "may-clicks",
        "june-clicks",
        "orders",
    ]


def test_a_named_set_keeps_its_name_beside_a_file_of_that_name():
    names = names_of(["movielens-1m", "data/movielens-1m.csv"])
    assert names == ["movielens-1m", "data-movielens-1m"]


def test_a_log_may_have_a_name_in_any_script_and_with_any_sign():
    recipe = parse(
        {
            "datasets": [{"data": "日本 clicks.csv"}, {"data": "#1, 2024.csv"}],
            "models": [{"network": "scn"}],
        },
        "options",
    )
    assert [each.name for each in recipe.datasets] == ["日本 clicks", "1- 2024"]


def test_logs_of_one_folder_that_would_have_one_name_keep_their_endings_or_are_counted():
    assert names_of(["a/clicks.csv", "a/clicks.parquet"]) == ["clicks.csv", "clicks.parquet"]
    assert names_of(["a/clicks #1.csv", "a/clicks @1.csv"]) == ["clicks -1-1", "clicks -1-2"]
    assert names_of(["a/clicks.csv", "a/clicks.csv"]) == ["clicks", "clicks"]


def test_letters_with_marks_of_their_own_stay_whole():
    assert names_of(["cafe\u0301.csv", "हिन्दी.csv"]) == ["caf\u00e9", "हिन्दी"]


def test_a_log_named_twice_is_refused():
    with pytest.raises(InvalidRequest, match="two data sets are named"):
        parse(
            {"datasets": [{"data": "a.csv"}, {"data": "a.csv"}], "models": [{"network": "scn"}]},
            "options",
        )
