"""Tables and plots of a real evaluation hold what its CSV says."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest

from experiments.comparison.doubts import doubts
from experiments.comparison.plots import write_plots
from experiments.comparison.results import read_results
from experiments.comparison.results_reader import METRICS, EvaluationResults
from experiments.comparison.tables import shown, write_tables
from shared.errors import InvalidRequest


@pytest.fixture
def folder(evaluated, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(evaluated, tmp_path / "evaluation")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_of_the_tables_is_the_mean_of_the_results(folder):
    write_tables(EvaluationResults.read(folder), "scn")
    results = read_results(folder)
    page = (folder / "tables" / "small.md").read_text()
    rows = rows_of(folder / "tables" / "small.csv")
    assert len(rows) == len(results) == 3 * 15
    for row in rows:
        values = list(results["small", row["model"], row["protocol"], row["metric"]].values())
        assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-12)
        assert float(row["std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert f"{np.mean(values):.4f} ±{np.std(values, ddof=1):.4f}" in page
    assert "150 users, 160 items" in page
    assert "learning_rate=" in page


def test_the_best_of_each_metric_is_bold(folder):
    board = EvaluationResults.read(folder)
    write_tables(board, "scn")
    page = (folder / "tables" / "small.md").read_text()
    for protocol, metrics in METRICS.items():
        for metric in metrics:
            assert f"**{board.best('small', protocol, metric):.4f}" in page


def test_the_comparison_is_the_difference_of_the_means(folder):
    board = EvaluationResults.read(folder)
    write_tables(board, "corrected")
    rows = rows_of(folder / "tables" / "small-comparison.csv")
    assert {row["model"] for row in rows} == {"scn", "corrected/local"}
    for row in rows:
        ours = board.figure("small", row["model"], row["protocol"], row["metric"])
        theirs = board.figure("small", "corrected", row["protocol"], row["metric"])
        assert float(row["difference"]) == pytest.approx(ours.mean - theirs.mean, abs=1e-9)
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        assert 0 <= float(row["p"]) <= float(row["holm"]) <= 1
    assert "## Against corrected" in (folder / "tables" / "small.md").read_text()


def test_plots_are_png_and_svg_and_hold_the_figures(folder):
    board = EvaluationResults.read(folder)
    written = write_plots(board)
    assert [path.name for path in written] == [
        "small-ndcg10.png", "small-ndcg10.svg", "small-validation.png", "small-validation.svg"
    ]  # fmt: skip
    assert written[0].read_bytes().startswith(b"\x89PNG")
    drawn = written[1].read_text()
    for row in board.about.models:
        assert row in drawn
        assert f"{board.figure('small', row, 'all', 'ndcg@10').mean:.4f}" in drawn
    assert "epochs" in written[3].read_text()
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_plots(board)] == before


def test_a_model_put_together_of_several_has_no_curve(folder):
    board = EvaluationResults.read(folder)
    curves = len(list(board.curves("small", "corrected")))
    run = folder / board.chosen("small", "corrected")[0]["folder"] / "trained.json"
    trained = json.loads(run.read_text())
    run.write_text(json.dumps(trained | {"metrics": [trained["best"]], "seconds": []}))
    assert len(list(board.curves("small", "corrected"))) == curves - 1
    assert write_plots(board)


def test_what_is_missing_is_said_and_the_rest_is_shown(folder):
    kept = [
        line
        for line in (folder / "runs.csv").read_text().splitlines(keepends=True)
        if not line.startswith("small,corrected")
    ]
    (folder / "runs.csv").write_text("".join(kept))
    kept = [
        line
        for line in (folder / "results.csv").read_text().splitlines(keepends=True)
        if not line.startswith("small,corrected")
    ]
    (folder / "results.csv").write_text("".join(kept))
    board = EvaluationResults.read(folder)
    write_tables(board, board.reference(None))
    write_plots(board)
    assert "| corrected | not run |" in (folder / "tables" / "small.md").read_text()
    assert "not run" in (folder / "plots" / "small-ndcg10.svg").read_text()


def test_the_command_writes_all_of_it_and_names_it(folder, monkeypatch, capsys):
    from cloud_service.cli import main

    monkeypatch.setattr(sys, "argv", ["cloud-service", "tables", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    named = capsys.readouterr().out.splitlines()
    assert len(named) == 4 + 4
    for path in named:
        assert (folder.parent / path).stat().st_size > 100


def test_ranks_that_were_damaged_are_a_named_error(folder):
    (file, *_) = folder.glob("runs/*/ranks.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InvalidRequest, match="remove its folder and evaluate again"):
        write_tables(EvaluationResults.read(folder), "scn")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("evaluation.json", None, "name the --out folder"),
        ("evaluation.json", "{}", "is not of this version"),
        ("results.csv", "a,b\n", "has not the columns dataset,model"),
    ],
)
def test_a_folder_that_is_no_evaluation_is_refused(folder, name, text, reason):
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(InvalidRequest, match=reason):
        EvaluationResults.read(folder)


def test_a_reference_that_is_no_row_is_refused_with_the_nearest(evaluated):
    with pytest.raises(InvalidRequest, match="no row corected: did you mean corrected"):
        EvaluationResults.read(evaluated).reference("corected")


def test_what_to_doubt_stands_before_the_figures(folder):
    write_tables(EvaluationResults.read(folder), "scn")
    for name in ("summary", "small"):
        page = (folder / "tables" / f"{name}.md").read_text()
        doubts, _, figures = page.partition("anked among all items")
        assert "## What to doubt" in doubts
        assert "| small | 0 of 1,906 | 0.0% | 1.7% | 1.9% | 2.4% |" in doubts
        assert "- small: 26.0% of the test clicks are on an item" in doubts
        assert "**0." in figures
    assert "validation still improved in the last epoch of scn" in doubts
    assert "(a random ranking) | 0.0284 |" in (folder / "tables" / "summary.md").read_text()


def test_p_values_are_corrected_for_the_rows_compared_in_a_metric(folder):
    found = EvaluationResults.read(folder).comparisons("small", "corrected", "all")
    for metric in METRICS["all"]:
        smaller, larger = sorted(
            (found[row, metric] for row in ("scn", "corrected/local")), key=lambda each: each.p
        )
        assert smaller.holm == pytest.approx(min(1.0, 2 * smaller.p))
        assert larger.holm == pytest.approx(max(smaller.holm, larger.p))


def told(folder):
    """What the results of a board make doubtful."""
    board = EvaluationResults.read(folder)
    (facts,) = board.about.datasets
    return " ".join(doubts(board, facts))


def test_models_below_popularity_or_chance_are_said(folder):
    about = json.loads((folder / "evaluation.json").read_text())
    assert "popularity" not in told(folder)
    assert "random ranking" not in told(folder)
    about["datasets"][0]["random_ndcg"] = 0.9
    (folder / "evaluation.json").write_text(json.dumps(about))
    assert "no model is told from a random ranking (NDCG@10 0.9000" in told(folder)


def test_a_popularity_that_no_model_reaches_is_said(folder):
    for name in ("evaluation.json", "runs.csv", "results.csv"):
        path = folder / name
        text = path.read_text().replace("small,scn,", "small,popularity,")
        path.write_text(text.replace('"scn"', '"popularity"'))
    results = folder / "results.csv"
    lines = results.read_text().splitlines()
    for value, expected in (("0.0001", False), ("0.99", True)):
        changed = [
            f"{line.rpartition(',')[0]},{value}" if ",popularity," in line else line
            for line in lines
        ]
        results.write_text("\n".join(changed) + "\n")
        words = f"no model ranks better than popularity (NDCG@10 {float(value):.4f}, all items)"
        assert (words in told(folder)) == expected


def test_a_model_whose_training_was_cut_short_is_marked(folder):
    board = EvaluationResults.read(folder)
    write_tables(board, "scn")
    page = (folder / "tables" / "small.md").read_text()
    assert "2.0 (cap)" in page, "two epochs are all it was given, and each was better"
    assert "Such a network is under-trained" in page
    for run in board.runs:
        run["limit"] = ""
    write_tables(board, "scn")
    assert "cap" not in (folder / "tables" / "small.md").read_text().split("## Training")[1]


def test_a_catalogue_too_small_for_100_negatives_is_called_so_and_not_a_missing_run():
    assert shown(None, 0.0, "") == "too few items"
    assert shown(None, 0.0, "1 of 3 diverged") == "1 of 3 diverged"
