import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.reproduce import numbers

TREE = {"test": {"accuracy": 0.5, "classes": ["a", "b"]}, "count": 300}


def json_file(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_place_and_size_of_the_largest_difference_in_json(tmp_path):
    other = {"test": {"accuracy": 0.5 + 1e-6, "classes": ["a", "b"]}, "count": 303}
    found = numbers.largest(
        json_file(tmp_path / "a", TREE), json_file(tmp_path / "b", other), "artifacts/evaluation/metrics.json"
    )
    assert found is not None
    assert found.where == "artifacts/evaluation/metrics.json, count"
    assert (found.recorded, found.reproduced) == ("300", "303")
    assert found.size == pytest.approx(0.01)


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "count": "300"},
        {**TREE, "count": None},
        {**TREE, "more": 1},
        {"count": 300},
        {**TREE, "test": {"accuracy": 0.5, "classes": ["a", "c"]}},
        {**TREE, "test": {"accuracy": 0.5, "classes": ["a"]}},
    ],
)
def test_what_is_no_number_passes_no_tolerance(tmp_path, other):
    found = numbers.largest(json_file(tmp_path / "a", TREE), json_file(tmp_path / "b", other), "x.json")
    assert found is not None
    assert math.isinf(found.size)


def test_equal_numbers_in_other_bytes_do_not_differ(tmp_path):
    (tmp_path / "a").write_text('{"a": 1.0}')
    (tmp_path / "b").write_text('{"a":   1}')
    assert numbers.largest(tmp_path / "a", tmp_path / "b", "x.json") is None


@given(st.floats(), st.floats())
def test_size_is_zero_only_for_what_is_equal(a, b):
    found = numbers.size(a, b)
    assert (found == 0) == (a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) / max(1, abs(a)) == 0)
    assert found >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_weights_are_compared_as_numbers(tmp_path, dtype):
    weights = {"layer.weight": torch.zeros((2, 3), dtype=dtype), "layer.bias": torch.ones(3, dtype=dtype)}
    save_file(weights, tmp_path / "a")
    weights["layer.weight"][1, 2] = 2
    save_file(weights, tmp_path / "b")
    found = numbers.largest(tmp_path / "a", tmp_path / "b", "weights.safetensors")
    assert found == numbers.Difference("weights.safetensors, tensor layer.weight at (1, 2)", "0.0", "2.0", 2.0)


def test_a_tensor_of_another_shape_or_name_differs_by_infinity(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a")
    for other in ({"a": torch.zeros(3)}, {"b": torch.zeros(2)}):
        save_file(other, tmp_path / "b")
        found = numbers.largest(tmp_path / "a", tmp_path / "b", "weights.safetensors")
        assert found is not None
        assert math.isinf(found.size)


def test_arrays_of_unsigned_bytes_do_not_wrap(tmp_path):
    a, b = np.zeros((5000, 2), np.uint8), np.zeros((5000, 2), np.uint8)
    a[4999, 1], b[4999, 1] = 2, 3
    for name, array in (("a", a), ("b", b)):
        with (tmp_path / name).open("wb") as stream:
            np.save(stream, array)
    found = numbers.largest(tmp_path / "a", tmp_path / "b", "images.npy")
    assert found is not None
    assert found.size == 0.5
    assert "rows from 4096 at (903, 1)" in found.where


def test_nan_equals_nan_and_nothing_else(tmp_path):
    np.save(tmp_path / "a.npy", np.array([math.nan, 1.0]))
    np.save(tmp_path / "b.npy", np.array([math.nan, math.nan]))
    found = numbers.largest(tmp_path / "a.npy", tmp_path / "b.npy", "x.npy")
    assert found is not None
    assert math.isinf(found.size)
    assert "at (1,)" in found.where


def test_no_pickle_is_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    found = numbers.largest(tmp_path / "a.npy", tmp_path / "b.npy", "x.npy")
    assert found is not None
    assert math.isinf(found.size)
    assert not (tmp_path / "sprung").exists()


def test_tables(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    (tmp_path / "b.csv").write_text("epoch,loss\n1,0.5\n2,0.26\n")
    found = numbers.largest(tmp_path / "a.csv", tmp_path / "b.csv", "curves.csv")
    assert found is not None
    assert found.where == "curves.csv, [1].loss"
    for name, value in (("a", 0.5), ("b", 0.75)):
        pq.write_table(pa.table({"p": [[0.5, value]], "label": ["x"]}), tmp_path / name)
    found = numbers.largest(tmp_path / "a", tmp_path / "b", "predictions.parquet")
    assert found == numbers.Difference("predictions.parquet, p[0][1]", "0.5", "0.75", 0.25)


def test_a_file_that_cannot_be_read_differs(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing")
    (tmp_path / "b").write_bytes(b"of use")
    for suffix in (".safetensors", ".json", ".parquet", ".npy", ".bin"):
        found = numbers.largest(tmp_path / "a", tmp_path / "b", f"x{suffix}")
        assert found is not None
        assert math.isinf(found.size)
