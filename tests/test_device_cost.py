"""The device benchmark runs what the models compute, and keeps what it measured."""

import json

import numpy as np
import torch

from benchmarks.device_cost import models
from benchmarks.device_cost.__main__ import counted, keep, measured
from benchmarks.device_cost.figure import draw
from benchmarks.device_cost.plan import TABLE, read_calls
from benchmarks.device_cost.point import bind, load_arrays


def test_the_scns_plan_ranks_a_history_of_several_segments_as_the_model_does(tmp_path):
    clicks = 25
    table = models.scn().item_embedding
    np.save(tmp_path / TABLE, table.detach().numpy())
    models.plan("scn", clicks).write(tmp_path / "plan")
    arrays = load_arrays(tmp_path / "plan")
    calls, fresh = read_calls(tmp_path / "plan")
    bound = bind(tmp_path / "plan", calls, arrays)
    for _ in range(2):  # a second run begins where the first did
        for call in bound:
            call.run()
    history = np.concatenate([arrays["clicks_0"], arrays["clicks_1"], arrays[fresh]])[:clicks]
    states = models.scn().last_states(torch.from_numpy(history)[None], torch.tensor([0]))
    wanted = models.scn().score(states, torch.from_numpy(arrays["candidates"])[None])[0]
    found = bound[-1].outputs["scores"]
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-5, rtol=1e-4)


def test_points_are_counted_measured_kept_and_drawn(tmp_path):
    names = (f"scn{models.CARRIED}", f"gru4rec{models.CARRIED}", "gru4rec")
    results = counted(names, (3, 30), tmp_path)
    measured(results, tmp_path, rounds=1, seconds=0.01)
    keep(results, tmp_path / "results.json")
    kept = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert set(kept) == {"name", "machine", "results", "ratios"}
    ratios = {name: each["value"] for name, each in kept["ratios"].items()}
    for name in names[:2]:
        assert ratios[f"{name}: flops a further click"] == 0
    # A click of a GRU: six products of 64 by 64, and what each unit does besides.
    assert ratios["gru4rec: flops a further click"] == 6 * 2 * 64 * 64 + 17 * 64
    for point in kept["results"].values():
        assert 0 < point["quartiles"][0] <= point["median"] <= point["quartiles"][1]
        assert 0 < point["memory_bytes"] < 100e6
        assert point["runs"] >= 20
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
