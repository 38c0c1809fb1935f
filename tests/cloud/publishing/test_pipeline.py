"""What a log makes doubtful goes with a training: into its log, and into the bundle's manifest."""

import pytest

from cloud_service.publishing.pipeline import read_data, train_and_publish
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.storage.store import Store


class Enough(Exception):
    """The training began: what is tested was said before."""


def test_a_training_on_a_doubtful_log_says_so_before_it_begins(tmp_path):
    rows = [f"{u},i{(u * 7 + step * 3) % 40},{step}" for u in range(40) for step in range(8)]
    rows += [f"bot,i{n % 40},{n}" for n in range(2_000)]
    data = tmp_path / "clicks.csv"
    data.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    said = []

    def report(progress):
        if progress.phase != "data":
            raise Enough

    recipe = TrainingRecipe(data=str(data))
    with pytest.raises(Enough):
        train_and_publish(
            recipe,
            store=Store(tmp_path / "store"),
            work=tmp_path / "work",
            data_folder=tmp_path,
            report=report,
            log=said.append,
        )
    cautions = [line.removeprefix("doubtful: ") for line in said if line.startswith("doubtful: ")]
    assert cautions == list(read_data(recipe, tmp_path).cautions)
    assert cautions[0].startswith("one user has 86.2% of all clicks (2,000; the median user 8)")


def test_what_a_recipe_says_of_its_log_is_done_to_it(tmp_path):
    rows = [f"{u},i{(u * 7 + step * 3) % 40},{step}" for u in range(40) for step in range(8)]
    data = tmp_path / "clicks.csv"
    data.write_text("user_id,item_id,timestamp\n" + "\n".join(rows + rows[:50]) + "\n")

    def clicks(**said):
        return read_data(TrainingRecipe(data=str(data), **said), tmp_path).log.click_count

    assert clicks() == 320
    assert clicks(repeats="all") == 370
    assert clicks(max_user_clicks=5) == 200


def test_a_bundles_manifest_holds_the_cautions_of_its_log(small_store, small_split):
    assert small_split.cautions
    manifest = small_store.manifest(small_store.production())
    assert manifest.data.cautions == small_split.cautions
