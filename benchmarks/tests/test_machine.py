"""What a benchmark leaves behind."""

import json

from benchmarks import machine


def test_a_benchmark_leaves_its_results_and_ratios_with_the_machine_they_are_of(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    ratios = {"speed": {"value": 5.0, "goal": 3.0}}

    path = machine.keep("training", {"passes": [1, 2]}, ratios)

    kept = json.loads(path.read_text("utf-8"))
    assert path == tmp_path / "results" / "training.json"
    assert kept["name"] == "training"
    assert kept["results"] == {"passes": [1, 2]}
    assert kept["ratios"] == ratios
    assert {"machine", "threads", "python", "torch", "onnxruntime", "numpy"} == set(kept["machine"])
