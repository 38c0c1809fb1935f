"""Goals are shown with their direction, and a missed one never looks reached."""

import performance_tables
import pytest
from table_parts import result

GOALS = ("one_device", "many_devices", "rerank", "scaling")


def rows_of(table: str) -> list[list[str]]:
    return [line.strip("| \n").split(" | ") for line in table.splitlines()[2:]]


@pytest.mark.parametrize("benchmark", GOALS)
def test_a_missed_goal_is_on_the_wrong_side_as_shown(benchmark):
    for ratio, value, goal, better, reached in rows_of(performance_tables.goals(benchmark)):
        is_beyond = (
            float(value) >= float(goal) if better == "higher" else float(value) <= float(goal)
        )
        assert is_beyond == (reached == "yes"), ratio


@pytest.mark.parametrize("benchmark", GOALS)
def test_every_ratio_with_a_goal_is_shown(benchmark):
    ratios = [ratio for ratio, figure in result(benchmark)["ratios"].items() if "goal" in figure]
    assert [row[0] for row in rows_of(performance_tables.goals(benchmark))] == ratios


def test_the_goals_of_a_section_are_all_counted():
    for _, goals, reached, missed in rows_of(
        performance_tables.goals_reached(performance_tables.SECTIONS)
    ):
        assert int(goals) == int(reached) + int(missed)
