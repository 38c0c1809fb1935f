"""A recipe in its sections, and in the flat form of the command line and of stored jobs."""

import json

import pytest
from pydantic import ValidationError

from cloud_service.recommender.recipe import (
    CoCorrRecNetwork,
    LayeredNetwork,
    SCNNetwork,
    TrainingRecipe,
)
from cloud_service.services.job import JobRequest


def test_the_flat_form_and_the_sections_are_the_same_recipe():
    flat = TrainingRecipe.of(data="a.csv", network="sasrec", layers=3, epochs=5, seed=1)
    sections = {
        "data": {"data": "a.csv"},
        "network": {"kind": "sasrec", "layers": 3},
        "optimisation": {"epochs": 5, "seed": 1},
    }
    assert flat == TrainingRecipe.model_validate(sections)
    assert isinstance(flat.network, LayeredNetwork)
    assert TrainingRecipe.model_validate_json(flat.model_dump_json()) == flat


def test_a_job_of_an_older_release_is_readable_and_written_the_same():
    stored = {"recipe": TrainingRecipe().model_dump(mode="json"), "promote": "always"}
    stored["recipe"] |= {"data": "a.csv", "teachers": "gru4rec", "teacher_dropout": 0.2}
    request = JobRequest.model_validate_json(json.dumps(stored))
    assert isinstance(request.recipe.network, CoCorrRecNetwork)
    assert request.recipe.network.teachers.names == "gru4rec"
    assert request.model_dump(mode="json") == stored
    assert isinstance(request.recipe.changed(network="scn").network, SCNNetwork)


def test_an_option_that_a_network_does_not_read_cannot_be_given_to_it():
    for option in ({"layers": 3}, {"drop_corrections": 0.1}, {"teachers": {}}):
        with pytest.raises(ValidationError, match="Extra inputs"):
            TrainingRecipe.model_validate({"network": {"kind": "scn"} | option})
    # The flat form names options for any network; what has no effect leaves no trace.
    assert TrainingRecipe.of(network="scn", layers=3) == TrainingRecipe.of(network="scn")
