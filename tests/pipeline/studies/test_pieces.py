"""What studies compute by themselves, against figures worked out by hand."""

import math

import numpy as np
import pytest

from pipeline.canvas import LIGHT
from pipeline.errors import Mistake
from pipeline.studies import paths_2d, saddles
from pipeline.studies.base import Job, Outcome, dealt, merged, named, percent, spread
from pipeline.studies.command import tree_of
from pipeline.studies.mlp_cnn import CONVNET, equal_width, mlp, parameters
from pipeline.studies.nearest import predictions
from pipeline.studies.planes import grid
from pipeline.studies.runner import markdown, table
from tests.pipeline.conftest import SHIPPED

TEST = np.array([[56, 32, 10, 18], [90, 23, 128, 133], [24, 26, 178, 200], [2, 0, 255, 220]], np.uint8)
TRAIN = np.array([[10, 20, 24, 17], [8, 10, 89, 100], [12, 16, 178, 170], [4, 32, 233, 112]], np.uint8)


def test_neighbours_vote_and_ties_go_to_the_nearer_then_to_the_smaller_label() -> None:
    memory = np.array([0, 10, 20, 30], np.uint8)[:, None]
    labels = np.array([2, 1, 1, 0])
    queries = np.array([4, 16, 25], np.uint8)[:, None]
    for distance in ("l1", "l2"):
        found = predictions(queries, memory, labels, [1, 2, 3, 4], distance)
        assert found[1].tolist() == [2, 1, 1]  # 25: of equal distances the first image
        assert found[2].tolist() == [2, 1, 0]  # 4: one each, the nearer; 25: both 5 away, the smaller label
        assert found[3].tolist() == [1, 1, 1]
        assert found[4].tolist() == [1, 1, 1]


def test_the_distances_are_those_of_whole_numbers() -> None:
    """L1 of the worked example is 456: between memories at 455 and 457 it decides."""
    near = TEST.copy()
    near[0, 0], near[1, 1] = 255, 255  # 199 and 232 away: 431 in sum, and 306 by L2 against TRAIN's 162
    for more, nearest in ((26, 0), (24, 1)):  # 457, 455
        near[3, 1] = more
        memory = np.stack([TRAIN, near])
        assert predictions(TEST[None], memory, np.array([0, 1]), [1], "l1")[1].tolist() == [nearest]
        assert predictions(TEST[None], memory, np.array([0, 1]), [1], "l2")[1].tolist() == [0]


def test_the_grid_goes_right_and_up() -> None:
    places = grid(3).reshape(3, 3, 2)
    assert places[0].tolist() == [[0, 0], [128, 0], [255, 0]]
    assert places[:, 0].tolist() == [[0, 0], [0, 128], [0, 255]]


def test_folds_are_a_partition() -> None:
    folds = dealt(13, 5, 0, "fold")
    assert sorted(np.concatenate(folds).tolist()) == list(range(13))
    assert [len(fold) for fold in folds] == [3, 3, 3, 2, 2]


def test_the_equal_network_has_nearly_as_many_parameters() -> None:
    from pipeline import params

    shapes = params.load(SHIPPED).overlaid({"data": {"source": "shapes"}})
    wanted, found = parameters(CONVNET, shapes), parameters(mlp(equal_width(shapes)), shapes)
    assert abs(found - wanted) / wanted < 0.1
    # three channels of 32 x 32 pixels to two layers of 2, to 8 classes, with biases
    assert parameters(mlp(2), shapes) == (3 * 32 * 32 + 1) * 2 + (2 + 1) * 2 + (2 + 1) * 8


def _walk(surface: str, rule: str) -> Outcome:
    from pipeline import params

    own = params.load(SHIPPED).overlaid({"optimizer": paths_2d.RULES[rule]})
    return Outcome("", paths_2d.walked(Job(own, {"surface": surface}, None)), {})


def test_a_path_is_that_of_the_formula() -> None:
    """SGD in the ravine: x <- (1 - lr) x, y <- (1 - 40 lr) y, with lr 0.045."""
    path = np.array(_walk("ravine", "SGD").figures["path"])
    steps = np.arange(len(path))
    assert path[:, 0] == pytest.approx(-2.0 * 0.955**steps)
    assert path[:, 1] == pytest.approx(0.5 * (-0.8) ** steps)


def test_arrival_is_the_first_step_after_which_the_value_stays_low() -> None:
    outcome = Outcome("", {"values": [10.0, 0.05, 1.0, 0.09, 0.05]}, {})
    assert paths_2d.arrival(outcome, 0.0) == 3
    assert paths_2d.arrival(Outcome("", {"values": [10.0, 5.0]}, {}), 0.0) is None
    momentum = paths_2d.arrival(_walk("ravine", "momentum"), 0.0)
    assert momentum is not None


def test_critical_points_of_a_line_are_no_saddles(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import params

    monkeypatch.setattr(saddles, "SURFACES", 12)
    job = Job(params.load(SHIPPED), {"dimension": 1}, None)
    found = saddles.counted(job)
    assert found["saddles"] == 0
    assert found["minima"] == found["maxima"] > 0  # a cubic has one of each, or none
    many = saddles.counted(Job(params.load(SHIPPED), {"dimension": 6}, None))
    assert many["saddles"] > 5 * (many["minima"] + many["maxima"])


# --- words and tables -------------------------------------------------------------------------------------------------


def test_repetitions_are_found_by_their_name_and_averaged() -> None:
    outcomes = {f"a, seed {seed}": Outcome(f"a, seed {seed}", {}, {}) for seed in range(3)}
    outcomes["a b, seed 0"] = Outcome("a b, seed 0", {}, {})
    assert [outcome.name for outcome in named(outcomes, "a")] == ["a, seed 0", "a, seed 1", "a, seed 2"]
    assert spread([0.5, 0.7]) == pytest.approx((0.6, math.sqrt(0.02)))
    assert percent([0.5, 0.7]) == "60.0 ± 14.1 %"
    assert percent([0.5]) == "50.0 %"


def test_a_fit_that_diverged_has_no_accuracy_and_an_infinite_loss() -> None:
    outcome = Outcome("", {"epochs": [{"val_figure": 0.9, "val_loss": 0.1}], "diverged": "at step 3"}, {})
    assert (outcome.accuracy, outcome.loss) == (0.0, math.inf)


def test_the_later_tree_wins() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_tables_have_the_columns_of_all_rows() -> None:
    rows = [{"a": 1, "b": 0.123456789}, {"a": 2, "c": None}]
    assert table(rows) == "a,b,c\n1,0.123456789,\n2,,\n"
    assert markdown(rows)[2] == "| 1 | 0.12346 |  |"


def test_settings_are_yaml() -> None:
    assert tree_of(["train.epochs=3", "train.batch_size=null", "seed=1"]) == {
        "train": {"epochs": 3, "batch_size": None},
        "seed": 1,
    }
    with pytest.raises(Mistake, match="KEY=VALUE"):
        tree_of(["=3"])


def test_the_palette_can_be_read_on_the_page() -> None:
    from pipeline.studies.plots import COLOURS, PASTEL

    assert LIGHT.background not in (*COLOURS, *PASTEL)
    assert len(set(COLOURS)) == len(COLOURS)
