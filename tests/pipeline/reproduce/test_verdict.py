import json
import math
from dataclasses import replace

from pipeline.errors import ExitStatus
from pipeline.reproduce.compare import MetricComparison, OutputComparison, compare_metrics
from pipeline.reproduce.numbers import Difference
from pipeline.reproduce.verdict import StageResult, as_json, judge

OUTPUT = OutputComparison("artifacts/model", "a" * 32, "a" * 32)
SAME = StageResult("train", "run", "key", (OUTPUT,), MetricComparison(7, ()))
WEIGHT = Difference("artifacts/model/weights.safetensors, tensor w at (0,)", "0.5", "0.50001", 1e-5)
OTHER = replace(
    SAME, outputs=(replace(OUTPUT, reproduced="b" * 32, differences=(WEIGHT,), drawings=("artifacts/model/c.png",)),)
)
PREPARE = replace(SAME, stage="prepare", outputs=(replace(OUTPUT, path="data/prepared"),))
THREADS = {"thread count": ("2", "1")}


def test_all_equal_is_bit_identical():
    found = judge([PREPARE, SAME], None)
    assert (found.word, found.status) == ("bit-identical", ExitStatus.SUCCESS)
    assert "2 outputs and 14 points of metrics of prepare, train" in found.lines[0]


def test_equal_bits_on_another_machine_are_bit_identical_and_it_is_said():
    found = judge([replace(SAME, machine=THREADS)], None)
    assert found.word == "bit-identical"
    assert "thread count 2, here 1" in found.lines[1]
    found = judge([replace(SAME, packages={"numpy": ("2.4.0", None)})], None)
    assert found.word == "bit-identical"
    assert "packages differ: numpy 2.4.0, here absent" in found.lines[1]


def test_the_first_stage_and_output_that_differ_are_named():
    found = judge([PREPARE, OTHER, replace(OTHER, stage="evaluate")], None)
    assert (found.word, found.status) == ("differs", ExitStatus.NEGATIVE_VERDICT)
    assert found.lines[0].startswith("first at stage train: artifacts/model/weights.safetensors, tensor w at (0,)")
    text = "\n".join(found.lines)
    assert "no input changed" in text
    assert "differ as well: evaluate" in text
    assert "bit-identical: prepare" in text


def test_an_input_that_changed_is_named_with_both_hashes():
    found = judge([replace(OTHER, inputs={"pipeline/training/fit.py": ("1" * 32, None)})], None)
    assert f"an input changed: pipeline/training/fit.py: {'1' * 32} when it was recorded, missing here" in found.lines
    assert not any("no input changed" in line for line in found.lines)


def test_packages_that_changed_are_named():
    found = judge([replace(OTHER, packages={"numpy": ("2.4.0", "2.5.0")})], None)
    assert found.word == "differs"
    assert "packages changed: numpy 2.4.0, here 2.5.0" in found.lines


def test_another_thread_count_cannot_be_compared_and_is_named():
    found = judge([PREPARE, replace(OTHER, machine=THREADS)], None)
    assert (found.word, found.status) == ("cannot be compared here", ExitStatus.NOT_COMPARABLE)
    assert "thread count: 2 when it was recorded, 1 here" in found.lines[0]


def test_on_another_machine_an_input_that_changed_still_differs():
    found = judge([replace(OTHER, machine=THREADS, inputs={"models/build.py": ("1" * 32, "2" * 32)})], None)
    assert found.word == "differs"


def test_within_tolerance_names_the_largest_difference_and_what_was_not_compared():
    found = judge([replace(OTHER, machine=THREADS)], 1e-4)
    assert (found.word, found.status) == ("within tolerance", ExitStatus.SUCCESS)
    assert "tensor w at (0,): 0.5 recorded, 0.50001 now (by 1e-05)" in found.lines[1]
    assert "artifacts/model/c.png" in found.lines[2]


def test_beyond_the_tolerance_differs():
    assert judge([OTHER], 1e-6).word == "differs"


def test_no_tolerance_lets_pass_what_is_no_number():
    unknown = replace(OUTPUT, reproduced="b" * 32, differences=(Difference("x", "a", "b", math.inf),))
    assert judge([replace(SAME, outputs=(unknown,))], 1e30).word == "differs"


def test_a_metric_alone_makes_it_differ_and_is_named():
    metrics = compare_metrics({"val/loss": {5: 0.5, 9: 0.25}}, {"val/loss": {5: 0.5, 9: 0.26}})
    found = judge([replace(SAME, metrics=metrics)], None)
    assert found.word == "differs"
    assert "val/loss at step 9: 0.25 recorded, 0.26 now" in found.lines[0]


def test_the_raw_files_are_a_cause_at_source_alone():
    found = judge([replace(OTHER, stage="source")], None, ["cat/1.png: gone"])
    assert "the raw data changed: cat/1.png: gone" in found.lines
    assert not any("raw data" in line for line in judge([OTHER], None, ["cat/1.png: gone"]).lines)


def test_metrics_are_compared_point_by_point_but_measurements():
    recorded = {
        "a": {1: 1.0, 2: math.nan},
        "measured/seconds": {1: 2.0},
        "trial 0: measured/x": {1: 1.0},
        "gone": {3: 0},
    }
    made = {"a": {1: 1.0, 2: math.nan, 3: 4.0}, "measured/seconds": {1: 3.0}, "new": {1: 0.0}}
    found = compare_metrics(recorded, made)
    assert found.points == 3
    assert [(d.where, d.recorded, d.reproduced) for d in found.differences] == [
        ("a at step 3", "not logged", "4.0"),
        ("gone at step 3", "0", "not logged"),
        ("new at step 1", "not logged", "0.0"),
    ]


def test_the_report_is_plain_json():
    unknown = replace(OUTPUT, differences=(Difference("x", "a", "b", math.inf),))
    text = json.dumps(as_json(replace(SAME, outputs=(unknown,))), allow_nan=False)
    assert json.loads(text)["outputs"][0]["differences"][0]["size"] == "inf"
