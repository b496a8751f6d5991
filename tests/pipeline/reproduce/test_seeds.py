import pytest
from ruamel.yaml import YAML

from pipeline.reproduce.seeds import Spread, ask, figures, with_seed


def test_other_seeds_are_run_in_order_and_the_file_is_put_back(tmp_path, params_text):
    file = tmp_path / "params.yaml"
    file.write_text(params_text)
    ran = []

    def run(stage):
        seed = YAML(typ="safe").load(file.read_text())["seed"]
        ran.append((stage, seed))
        return {"test/accuracy": 0.9 + seed / 100}

    found = ask(3, tmp_path, ["train", "evaluate"], run, {"test/accuracy": 0.95})
    assert ran == [(stage, seed) for seed in (1, 2, 3) for stage in ("train", "evaluate")]
    assert found == [Spread("test/accuracy", 0.95, (0.91, 0.92, 0.93))]
    assert file.read_text() == params_text


def test_only_the_seed_is_changed(params_text):
    other = with_seed(params_text.encode(), 7).decode()
    load = YAML(typ="safe").load
    assert load(other) == {**load(params_text), "seed": 7}


def test_the_words():
    said = Spread("test/accuracy", 0.95, (0.94, 0.93, 0.96, 0.92, 0.91)).lines()
    assert "mean 0.932, standard deviation 0.0192, from 0.91 to 0.96" in said[0]
    assert said[1].strip() == "higher than 4 of 5: typical of other seeds"
    assert "luck: it is higher" in Spread("test/accuracy", 0.99, (0.91, 0.92, 0.93)).lines()[1]
    assert "luck: it is lower" in Spread("test/accuracy", 0.5, (0.91, 0.92, 0.93)).lines()[1]


def test_a_value_just_outside_few_others_is_no_luck():
    assert Spread("test/accuracy", 0.935, (0.91, 0.92, 0.93)).is_typical()


@pytest.mark.parametrize(("stage", "value"), [("evaluate", 0.9), ("train", 0.8)])
def test_what_is_judged_is_the_last_figure_of_the_weights_kept(stage, value):
    metrics = {"test/accuracy": {10: 0.9}, "best/val_accuracy": {5: 0.7, 9: 0.8}, "val/accuracy": {9: 0.1}}
    assert list(figures(metrics, stage).values()) == [value]
