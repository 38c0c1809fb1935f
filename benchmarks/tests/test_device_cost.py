"""The device benchmark runs what the models compute, and keeps what it measured."""

import numpy as np
import pytest
import torch

from benchmarks.device_cost import models
from benchmarks.device_cost.__main__ import counted, flat, measured, ratios
from benchmarks.device_cost.figure import draw
from benchmarks.device_cost.plan import TABLE, read_calls
from benchmarks.device_cost.point import bind, load_arrays

pytestmark = pytest.mark.slow(16)


@pytest.mark.parametrize("segment", [10, 5])
def test_the_scns_plan_ranks_a_history_of_several_segments_as_the_model_does(tmp_path, segment):
    clicks = 25 if segment == 10 else 11
    scn = models.scn(segment)
    np.save(tmp_path / TABLE, scn.item_embedding.detach().numpy())
    models.plan(f"scn{models.SEGMENTED}{segment}", clicks).write(tmp_path / "plan")
    arrays = load_arrays(tmp_path / "plan")
    calls, fresh = read_calls(tmp_path / "plan")
    bound = bind(tmp_path / "plan", calls, arrays)
    for _ in range(2):  # a second run begins where the first did
        for call in bound:
            call.run()
    history = np.concatenate([arrays["clicks_0"], arrays["clicks_1"], arrays[fresh]])[:clicks]
    states = scn.last_states(torch.from_numpy(history)[None], torch.tensor([0]))
    wanted = scn.score(states, torch.from_numpy(arrays["candidates"])[None])[0]
    found = bound[-1].outputs["scores"][0]
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-5, rtol=1e-4)


def test_points_are_counted_measured_kept_and_drawn(tmp_path):
    names = (
        *models.NAMES[:3],
        f"gru4rec{models.CARRIED}",
        "gru4rec",
    )
    results = counted(names, (3, 30), tmp_path)
    measured(results, tmp_path, rounds=1, seconds=0.01)
    found = {name: each["value"] for name, each in ratios(results).items()}
    for name in names[:4]:
        assert found[f"{name}: flops a further click"] == 0
    assert sum(" / gru4rec (carried): time" in name for name in found) == 2
    # A click of a GRU: six products of 64 by 64, and what each unit does besides.
    assert found["gru4rec: flops a further click"] == 6 * 2 * 64 * 64 + 17 * 64
    for point in flat(results).values():
        assert 0 < point["quartiles"][0] <= point["median"] <= point["quartiles"][1]
        assert 0 < point["memory_bytes"] < 100e6
        assert point["runs"] >= 20
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
