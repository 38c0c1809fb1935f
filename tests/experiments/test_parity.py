"""The published model's numbers, in PyTorch and from the exported graphs in ONNX Runtime."""

import numpy as np
import pytest

from experiments.parity import ARRAYS, check_parity, read_arrays
from shared.errors import DataError

pytestmark = pytest.mark.slow(15)


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def test_every_array_of_every_case_agrees_with_the_published_model(parity_file):
    found = list(check_parity(parity_file))
    for each in found:
        print(f"{each.engine:5} {each.case:12} {each.array:12} {each.largest:.2e}")
        assert each.within
    assert {each.engine for each in found} == {"torch", "onnx"}
    assert {each.array for each in found} == set(ARRAYS)
    assert len(found) == 2 * 22


def test_a_model_that_is_off_by_a_little_is_found_out(parity_file, tmp_path):
    arrays = read_arrays(parity_file)
    arrays = {n: a for n, a in arrays.items() if n.startswith(("weight/", "short/"))}
    arrays["weight/inner_norm.bias"] = arrays["weight/inner_norm.bias"] + np.float32(0.01)
    found = list(check_parity(save(tmp_path / "off.npz", arrays)))
    assert any(not each.within for each in found if each.engine == "torch")
    assert any(not each.within for each in found if each.engine == "onnx")


def test_a_result_that_is_nan_is_never_within(parity_file, tmp_path):
    arrays = read_arrays(parity_file)
    arrays = {n: a for n, a in arrays.items() if n.startswith(("weight/", "short_local/"))}
    arrays["weight/output"] = np.full_like(arrays["weight/output"], np.nan)
    found = {e.array: e.within for e in check_parity(save(tmp_path / "nan.npz", arrays))}
    assert not found["scores"]


def test_a_file_that_is_no_parity_file_says_what_is_wrong(parity_file, tmp_path):
    arrays = read_arrays(parity_file)
    weights = {n: a for n, a in arrays.items() if n.startswith("weight/")}
    text = tmp_path / "text.npz"
    text.write_text("no arrays here")
    np.save(tmp_path / "one.npy", np.ones(3))
    pickled = save(tmp_path / "pickled.npz", {"weight/x": np.array([object()], dtype=object)})
    clicks = arrays["short/clicks"]
    cases = [
        (tmp_path / "missing.npz", "cannot be read"),
        (text, "cannot be read"),
        (tmp_path / "one.npy", "single array"),
        (pickled, "without pickle"),
        (save(tmp_path / "weights.npz", weights), "no case"),
        (save(tmp_path / "half.npz", {**weights, "a/clicks": np.ones((1, 10))}), "lacks"),
        (
            save(tmp_path / "none.npz", {n: a for n, a in arrays.items() if n not in weights}),
            "no weight/inner_weight",
        ),
        (
            save(tmp_path / "shape.npz", {**arrays, "weight/query": np.ones((3, 3))}),
            "not those of a published model",
        ),
        (save(tmp_path / "far.npz", {**arrays, "short/clicks": clicks + 300}), "item numbers"),
        (save(tmp_path / "flat.npz", {**arrays, "short/clicks": clicks[0]}), "batch"),
        (save(tmp_path / "void.npz", {**arrays, "short/clicks": clicks * 0}), "at least one"),
        (
            save(
                tmp_path / "empty.npz",
                {**arrays, "short/clicks": clicks[:0], "short/candidates": clicks[:0]},
            ),
            "empty",
        ),
    ]
    for path, words in cases:
        with pytest.raises(DataError, match=words):
            list(check_parity(path))
