"""params.yaml: what is read, and what is said of every mistake."""

import copy
import io
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.main import CParser

from pipeline import params
from pipeline.errors import Mistake
from pipeline.params import Params, reading
from pipeline.params.reading import parse_yaml
from pipeline.params.sources import SOURCES

ROOT = Path(__file__).parent.parent.parent
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))
LEAVES = dict(params.leaves())
Tree = dict[str, Any]


TREE: Tree = YAML(typ="safe").load(SHIPPED)


def tree() -> Tree:
    return copy.deepcopy(TREE)


def validated(content: Tree, file: str) -> Params:
    return reading.validated(Params, content, file)


def put(target: Tree, path: tuple[str, ...], value: Any) -> Tree:
    node = target
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return target


def dump(content: Tree) -> str:
    writer, stream = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.dump(content, stream)
    return stream.getvalue()


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Writes a text as params.yaml and loads it."""

    def load(text: str) -> Params:
        file = tmp_path / "params.yaml"
        file.write_text(text, encoding="utf-8")
        return params.load(file)

    return load


def mistakes(load: Any, text: str) -> list[str]:
    """What is said of a text, without the folder it lies in."""
    with pytest.raises(Mistake) as raised:
        load(text)
    return [line[line.index("params.yaml") :] for line in raised.value.lines]


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The line of a key in a block-style text, found by indentation alone."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith(f"{path[depth]}:") and len(line) - len(line.lstrip()) == 2 * depth:
            depth += 1
            if depth == len(path):
                return number
    raise AssertionError(path)


# --- what is valid ----------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_valid_and_keeps_its_values() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.model_dump() == tree()
    assert loaded.optimizer.settings.nesterov is True
    assert loaded.optimizer.effective_momentum == 0.9
    assert (loaded.data.resolved_image_size, loaded.data.resolved_channels) == (8, 1)


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ({"source": "points"}, (1, 2)),
        ({"source": "hard_cases"}, (1, 2)),
        ({"source": "hard_cases", "hard_cases": TREE["data"]["hard_cases"] | {"dimensions": 64}}, (8, 1)),
        ({"source": "shapes", "shapes": TREE["data"]["shapes"] | {"side": 48}}, (48, 3)),
        ({"source": "shapes", "image_size": 16, "channels": 1}, (16, 1)),
        ({"source": "pose"}, (32, 3)),
    ],
)
def test_what_null_stands_for_depends_on_the_source(load: Any, source: Tree, own: tuple[int, int]) -> None:
    data = load(change(data=source)).data
    assert (data.resolved_image_size, data.resolved_channels) == own


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.name)
def test_recipes_are_valid(recipe: Path) -> None:
    assert params.load(recipe).data.source in ("folder", "archive")
    assert recipe.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../params.schema.json")


def test_every_key_has_a_comment() -> None:
    for number, line in enumerate(SHIPPED.splitlines(), 1):
        key, _, value = line.partition(":")
        is_value = value.split("#")[0].strip() not in ("", "{}")
        inside_space = line.startswith("      ") and number > line_of(SHIPPED, ("search", "space"))
        if line.strip() and not line.lstrip().startswith("#") and is_value and not inside_space:
            assert "#" in value, f"params.yaml:{number}: {key.strip()} has no comment"


def test_the_file_names_every_key_of_the_tree() -> None:
    for path in LEAVES:
        assert line_of(SHIPPED, path) > 0


def test_the_schema_for_editors_is_current() -> None:
    committed = (ROOT / "docs" / "params.schema.json").read_text(encoding="utf-8")
    assert committed == params.json_schema(), "run: retrace schema > docs/params.schema.json"
    assert SHIPPED.startswith("# yaml-language-server: $schema=docs/params.schema.json")


@pytest.mark.parametrize("section", ["loss", "regularization", "optimizer", "schedule"])
def test_the_page_on_training_names_every_family_and_key(section: str) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    keys = {key for path in LEAVES if path[0] == section for key in path[1:]} - {"name"}
    assert not [key for key in sorted(keys) if f"`{key}`" not in page and f"{section}.{key}" not in page]


def test_the_schema_describes_every_key() -> None:
    schema = json.loads(params.json_schema())
    for path, field in LEAVES.items():
        node = schema
        for key in path:
            while "$ref" in node or "anyOf" in node:
                refs = [node] if "$ref" in node else [option for option in node["anyOf"] if "$ref" in option]
                node = schema["$defs"][refs[0]["$ref"].rpartition("/")[2]]
            node = node["properties"][key]
        assert node["description"] == field.description


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("1E-3", 0.001), ("1", 1.0), ("0.5", 0.5), (".5", 0.5)])
def test_numbers_as_people_write_them(load: Any, text: str, value: float) -> None:
    assert load(SHIPPED.replace("  lr: 0.1 ", f"  lr: {text} ")).optimizer.lr == value


def test_a_family_that_rests_may_be_left_out(load: Any) -> None:
    content = tree()
    del content["model"]["resnet"], content["model"]["vgg"]
    assert load(dump(content)).model.settings.width == 32


def options(field: FieldInfo) -> tuple[Any, ...]:
    """A key's alternatives: (float, None) for `float | None`."""
    several = get_args(field.annotation) and get_origin(field.annotation) not in (Literal, dict)
    return get_args(field.annotation) if several else (field.annotation,)


def valid_values(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Values that the bounds of a key allow."""
    found = []
    limits = {name: getattr(c, name) for c in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(c, name)}
    for option in options(field):
        if option is type(None):
            found.append(st.none())
        elif get_origin(option) is Literal:
            found.append(st.sampled_from(get_args(option)))
        elif option is bool:
            found.append(st.booleans())
        elif option is int:
            low = limits.get("ge", limits.get("gt", -(2**60)) + ("gt" in limits))
            high = limits.get("le", limits.get("lt", 2**60) - ("lt" in limits))
            found.append(st.integers(low, high))
        elif option is float:
            found.append(
                st.floats(
                    limits.get("ge", limits.get("gt", -1e9)), limits.get("le", limits.get("lt", 1e9)),
                    exclude_min="gt" in limits, exclude_max="lt" in limits, allow_nan=False,
                )
            )  # fmt: skip
        elif option is str:
            found.append(
                st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=20)
            )
    return st.one_of(found)


# Keys that must agree with others are left as they are; those rules have tests of their own.
FREE = {
    path: field
    for path, field in LEAVES.items()
    if path[-1] not in ("momentum", "path", "source", "validation_fraction", "test_fraction", "space")
    and path[-1] not in ("accumulate_batches", "clip_norm", "monitor", "weights")
    and path not in (("optimizer", "name"), ("search", "round"), ("search", "workers"))
    and path[-1] not in ("alternating_flip", "per_class", "per_image")
    and path not in (("model", "init_from", "up_to"), ("model", "init_from", "frozen"), ("model", "resnet", "form"))
    and path != ("loss", "class_weights")
}


@given(st.data())
def test_any_valid_tree_survives_the_way_through_the_file(data: st.DataObject) -> None:
    content = tree()
    for path, field in FREE.items():
        put(content, path, data.draw(valid_values(field), label=".".join(path)))
    loaded = validated(parse_yaml(dump(content), "params.yaml")[0], "params.yaml")
    assert loaded.model_dump() == content
    assert {key: value for key, value in loaded.flat().items() if key == "train.epochs"} == {
        "train.epochs": content["train"]["epochs"]
    }


# --- single mistakes at every key -------------------------------------------------------------------------------------


def wrong_values(field: FieldInfo) -> list[Any]:
    """Values that a key must refuse: wrong types, and what lies just outside its bounds."""
    kinds = set(options(field))
    wrong: list[Any] = [[1], math.nan, math.inf, -math.inf]
    if not any(get_origin(kind) is dict for kind in kinds):
        wrong.append({"a": 1})
    if str not in kinds:
        wrong.append("no such value")
    if bool not in kinds:
        wrong.append(True)
    if type(None) not in kinds:
        wrong.append(None)
    if float not in kinds:
        wrong.append(1.5)
    for constraint in field.metadata:
        tiny = 1 if int in kinds else 1e-9
        wrong += [constraint.ge - tiny] if hasattr(constraint, "ge") else []
        wrong += [constraint.gt] if hasattr(constraint, "gt") else []
        wrong += [constraint.le + (1 if int in kinds else 1e-3)] if hasattr(constraint, "le") else []
        wrong += [constraint.lt] if hasattr(constraint, "lt") else []
    return wrong


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_wrong_values_are_told_with_file_line_key_and_what_is_allowed(load: Any, path: tuple[str, ...]) -> None:
    values = wrong_values(LEAVES[path])
    for value in values:
        with pytest.raises(Mistake) as raised:
            validated(put(tree(), path, value), "params.yaml")
        assert len(raised.value.lines) == 1, (value, raised.value)
        assert raised.value.lines[0].startswith(f"params.yaml: {'.'.join(path)}: ")
        assert "is not allowed; must be" in raised.value.lines[0]
    text = dump(put(tree(), path, values[0]))
    (said,) = mistakes(load, text)
    assert said.startswith(f"params.yaml:{line_of(text, path)}: {'.'.join(path)}: ")


@pytest.mark.parametrize("path", [*LEAVES, *sorted({path[:-1] for path in LEAVES if len(path) == 2})], ids=".".join)
def test_a_missing_key_is_told(load: Any, path: tuple[str, ...]) -> None:
    content = tree()
    node = content
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    said = mistakes(load, dump(content))
    assert [line for line in said if f"{'.'.join(path)}: missing; every value is explicit" in line], said


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_a_misspelt_key_is_told_with_the_nearest_name(load: Any, path: tuple[str, ...]) -> None:
    name = path[-1]
    misspelt = (*path[:-1], name + name[-1])
    text = dump(put(tree(), misspelt, 1))
    place = f"params.yaml:{line_of(text, misspelt)}: {'.'.join(misspelt)}: "
    assert mistakes(load, text) == [f"{place}unknown key; did you mean '{name}'?"]


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_a_key_said_twice_is_told_with_both_lines(load: Any, path: tuple[str, ...]) -> None:
    lines = SHIPPED.splitlines()
    first = line_of(SHIPPED, path)
    indent = "  " * (len(path) - 1)
    lines.insert(first - 1, f"{indent}{path[-1]}: 1")
    expected = f"params.yaml:{first + 1}: {'.'.join(path)}: duplicate key; it is set at line {first} already, keep one"
    assert expected in mistakes(load, "\n".join(lines))


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(load: Any) -> None:
    text = (
        SHIPPED.replace("\nseed: 0 ", "\nseed: -1 ")
        .replace("source: digits ", "source: folders ")
        .replace("name: sgd ", "name: adam ")
        .replace("  lr: 0.1 ", "  lr: fast ")
        .replace("  epochs: 20 ", "  epoch: 20 ")
        .replace("low: 0.02", "low: 0.9")
    )
    text += "seed: 3\n"
    said = mistakes(load, text)
    numbers = [int(line.split(":")[1]) for line in said]
    assert numbers == sorted(numbers)
    assert [line.split(": ", 1)[1] for line in said] == [
        "seed: -1 is not allowed; must be a whole number at least 0 and below 9223372036854775808",
        f"data.source: \"folders\" is not allowed; must be one of {', '.join(SOURCES)}; did you mean 'folder'?",
        'optimizer.lr: "fast" is not allowed; must be a number above 0 and at most 1000',
        "optimizer.momentum: 0.9 has no meaning for adam; set it to null, or use sgd, alexnet, rmsprop, muon",
        "train.epochs: missing; every value is explicit, add it (a whole number at least 1 and at most 100000)",
        "train.epoch: unknown key; did you mean 'epochs'?",
        "search.space.optimizer.lr: empty range: low 0.9 is not below high 0.5",
        "seed: duplicate key; it is set at line 5 already, keep one",
    ]


# --- files that are no parameter files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2]", "must be a mapping"),
        ("just words", "must be a mapping"),
        ("a: b: c", ":1: not YAML"),
        ("\tseed: 0", "not YAML"),
        ("seed: 'open", "not YAML"),
        ("seed: 0\n---\nseed: 1", "not YAML"),
        ("seed: !!python/object/apply:os.system [ls]", "not YAML"),
        ("seed: 2024-13-45", "not YAML"),
        ("seed: \x00", "not YAML"),
        ("seed: &x {again: *x}", "contains itself"),
        ("seed: &x [*x]", "is not allowed"),
        ("", "seed: missing"),
        ("null: 1\n2: 3", "2: unknown key"),
        ("optimizer: {2: 3}", "optimizer.2: unknown key"),
        ("optimizer: 3", "optimizer: 3 is not allowed; must be a mapping with the keys name, lr"),
        ("seed: " + "9" * 5000, "not YAML"),
    ],
)
def test_files_that_are_none_end_in_a_mistake(load: Any, text: str, expected: str) -> None:
    assert [line for line in mistakes(load, text) if expected in line]


def test_a_file_that_is_not_utf8_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    with pytest.raises(Mistake, match="not found; run this in the project's folder"):
        params.load(file)
    file.write_bytes(b"seed: \xff")
    with pytest.raises(Mistake, match="not UTF-8 at byte 6"):
        params.load(file)


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", *(f"docs/recipes/{file.name}" for file in RECIPES)])
def test_dvc_reads_with_the_parser_in_c_and_finds_the_same(name: str) -> None:
    from dvc.utils.serialize import load_yaml

    assert YAML(typ="safe").Parser is CParser is not None  # what ruamel gives DVC; without it DVC is slower, no more
    text = (ROOT / name).read_text(encoding="utf-8")
    assert load_yaml(str(ROOT / name)) == parse_yaml(text, name)[0]


@pytest.mark.parametrize(
    "spelt",
    ["1e-3", "1.0e5", "1e+3", "-.5", "5.", "012", "0o14", "0x1F", "1_000", "+1", ".inf", "yes", "off", "True", "~",
     "Null", "60:30", "2001-01-01", "${a.b}", "'it''s'", '"\\u00e9"', "é", "[1, b]", "{a: 1}", "|\n  two\n",
     "&x 3"],
)  # fmt: skip
def test_dvc_takes_every_spelling_for_the_value_that_we_take_it_for(spelt: str) -> None:
    from dvc.utils.serialize import parse_yaml as dvc_parse_yaml

    text = f"value: {spelt}\n"
    [ours, dvcs] = [parse_yaml(text, "params.yaml")[0]["value"], dvc_parse_yaml(text, "params.yaml")["value"]]
    assert (type(ours), ours) == (type(dvcs), dvcs)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_ends_in_anything_but_a_mistake(text: str) -> None:
    def read() -> None:
        raw, lines, duplicates = parse_yaml(text, "params.yaml")
        reading.validated(Params, raw, "params.yaml", lines, duplicates)

    with pytest.raises(Mistake):
        read()


# --- rules between keys -----------------------------------------------------------------------------------------------


def change(**sections: Mapping[str, Any]) -> str:
    content = tree()
    for section, values in sections.items():
        content[section] |= values
    return dump(content)


def tabled(**settings: Any) -> str:
    return change(data={"source": "table", "path": "x.csv", "table": tree()["data"]["table"] | settings})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (change(optimizer={"name": "adamw"}), "optimizer.momentum: 0.9 has no meaning for adamw; set it to null"),
        (change(data={"source": "folder"}), "data.path: missing; `source: folder` needs the folder"),
        (change(data={"source": "folder", "path": ""}), "data.path: missing"),
        (change(data={"path": "pictures"}), "data.path: 'pictures' is not used by `source: digits`"),
        (change(data={"source": "archive"}), "data.path: missing; `source: archive` needs the archive that holds"),
        (
            change(data={"source": "table"}),
            "data.path: missing; `source: table` needs the table, or the folder or archive",
        ),
        (tabled(label=None), "data.table.label: null, and so is targets; name the column of classes here"),
        (tabled(targets="x, y"), "data.table.targets: a row has a label or targets, not both"),
        (tabled(label=None, targets="x", box="l,t,r,b"), "data.table.box: a box is of a labelled object"),
        (tabled(label=None, targets="x, x"), "data.table.targets: 'x, x' names a column twice, or none"),
        (tabled(box="l,,r,b"), "data.table.box: 'l,,r,b' names a column twice, or none"),
        (tabled(box="l,t,r"), "data.table.box: 'l,t,r' names 3 columns; write four: left, top, right, bottom"),
        (
            change(data={"test_fraction": 0.5, "validation_fraction": 0.5}),
            "data.validation_fraction: with test_fraction makes 1, which leaves nothing to train on",
        ),
        (
            change(search={"workers": 3, "round": 2}),
            "search.workers: 3 is more than search.round, which is 2: only trials proposed together train side by side;"
            " raise search.round",
        ),
        (
            change(data={"source": "hard_cases", "hard_cases": TREE["data"]["hard_cases"] | {"dimensions": 10}}),
            "data.hard_cases.dimensions: 10 pixels are no square; set it to 2, 9 or 16",
        ),
        (
            change(data={"source": "points", "points": TREE["data"]["points"] | {"figure": "xor"}}),
            "data.points.classes: xor has two classes, not 3; set it to 2, or use another figure",
        ),
        (
            change(data={"source": "points", "channels": 3}),
            "data.channels: the pixels of `source: points` are numbers that no conversion may change; set it to null",
        ),
        (
            change(data={"source": "hard_cases", "image_size": 32}),
            "data.image_size: the pixels of `source: hard_cases` are numbers that no conversion may change",
        ),
        (
            change(train={"batch_size": None, "accumulate_batches": 4}),
            "train.accumulate_batches: 4 has no meaning where batch_size: null makes one batch an epoch; use 1",
        ),
        (
            change(train={"clip_norm": 1.0, "precision": "16-mixed"}),
            "train.clip_norm: cannot be had with precision: 16-mixed, which scales gradients; use bf16-mixed",
        ),
        *(
            (
                change(optimizer={"name": "random_search", "momentum": None}, train={key: value}),
                f"train.{key}: {json.dumps(value)} has no meaning for random_search; use {allowed}",
            )
            for key, value, allowed in [
                ("accumulate_batches", 2, "1"),
                ("clip_norm", 1.0, "null"),
                ("devices", 2, "1"),
                ("precision", "16-mixed", '"32-true" or "bf16-mixed"'),
            ]
        ),
        (
            change(
                loss={"name": "huber"},
                schedule={"name": "plateau", "plateau": TREE["schedule"]["plateau"] | {"monitor": "error"}},
            ),
            "schedule.plateau.monitor: error has no meaning for huber, which learns numbers",
        ),
        (change(regularization={"max_norm": 0}), "regularization.max_norm: 0 is not allowed; must be a number above 0"),
        (
            change(regularization={"max_norm": -1.5}),
            "regularization.max_norm: -1.5 is not allowed; must be a number ab",
        ),
        (
            change(model={"convnet": None}),
            "model.convnet: missing, but it is the chosen family; add `convnet:` with width",
        ),
    ],
)
def test_keys_that_do_not_agree(load: Any, text: str, expected: str) -> None:
    said = mistakes(load, text)
    assert len(said) == 1
    assert expected in said[0]


def test_the_parameters_can_be_sent_to_another_process(load: Any) -> None:
    chosen = load(SHIPPED)
    copy = pickle.loads(pickle.dumps(chosen))
    assert copy == chosen
    assert copy.overlaid({"model": {"name": "mlp"}}) == chosen.overlaid({"model": {"name": "mlp"}})


def test_the_optimizers_own_momentum(load: Any) -> None:
    own = load(change(optimizer={"momentum": None}))
    assert own.optimizer.effective_momentum == 0.9
    adam = load(change(optimizer={"momentum": None, "name": "adam"}))
    assert adam.optimizer.effective_momentum is None


# --- the search space -------------------------------------------------------------------------------------------------


def space(**sections: Any) -> str:
    return change(search={"space": sections})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (space(optimizer={"lr": {"low": 0.1}}), "optimizer.lr: must be `low`, `high` and optionally `log`"),
        (space(optimizer={"lr": 0.1}), "optimizer.lr: must be `low`"),
        (space(optimizer={"lr": {"low": 1, "high": 2, "step": 3}}), "optimizer.lr: must be `low`"),
        (space(optimizer={"lr": {"low": 2, "high": 1}}), "optimizer.lr: empty range"),
        (space(optimizer={"lr": {"low": 1, "high": 1}}), "optimizer.lr: empty range"),
        (space(optimizer={"lr": {"low": math.nan, "high": 1}}), "optimizer.lr: low: NaN is not allowed"),
        (space(optimizer={"lr": {"low": 0.1, "high": math.inf}}), "optimizer.lr: high: Infinity is not allowed"),
        (space(optimizer={"lr": {"low": 0.1, "high": 2000}}), "optimizer.lr: high: 2000 is not allowed"),
        (space(optimizer={"lr": {"low": True, "high": 2}}), "optimizer.lr: low: true is not allowed"),
        (space(optimizer={"lr": {"low": 0.1, "high": 2, "log": 1}}), "optimizer.lr: log: 1 must be true or false"),
        (space(optimizer={"momentum": {"low": 0, "high": 0.9, "log": True}}), "low: 0 must be above 0 on a log"),
        (space(model={"convnet": {"width": {"low": 1.5, "high": 8}}}), "width: low: 1.5 is not allowed"),
        (space(optimizer={"lr": {"choices": []}}), "choices must be a list of at least one value"),
        (space(optimizer={"lr": {"choices": [0.1, -1]}}), "choice -1 is not allowed; must be a number above 0"),
        (space(optimizer={"lr": {"choices": [0.1, 0.1]}}), "choice 0.1 stands twice"),
        (space(train={"precision": {"choices": ["32-true", "int3"]}}), 'choice "int3" is not allowed'),
        (space(train={"precision": {"low": 0, "high": 1}}), "must be `choices:` with a list of values"),
        (space(optimizer={"name": {"choices": ["sgd", "adam"]}}), "cannot be searched: results depend on the chosen"),
        (space(optimizer={"rate": {"low": 1, "high": 2}}), "search.space.optimizer.rate: unknown key"),
        (space(optimizer=3), "search.space.optimizer: must be a mapping that mirrors the parameter tree"),
        (space(seed={"low": 1, "high": 2}), "seed: cannot be searched: a search would pick the luckiest"),
        (space(data={"image_size": {"low": 1, "high": 2}}), "cannot be searched: it is used before the search"),
        (space(augment={"normalization": {"choices": ["none"]}}), "cannot be searched: it is used before the search"),
        (space(train={"threads": {"low": 1, "high": 2}}), "cannot be searched: it describes the machine"),
        (space(search={"trials": {"low": 1, "high": 2}}), "cannot be searched: search is not used by the model"),
        (space(tracking={"uri": {"choices": ["a"]}}), "cannot be searched: tracking is not used by the model"),
    ],
)
def test_a_wrong_space_is_told(load: Any, text: str, expected: str) -> None:
    said = mistakes(load, text)
    assert len(said) == 1
    assert "search.space" in said[0]
    assert expected in said[0]


def test_a_space_becomes_dimensions_sorted_by_path(load: Any) -> None:
    loaded = load(
        space(
            regularization={"l2": {"low": 1e-5, "high": 1e-3, "log": True}},
            optimizer={"momentum": {"low": 0.5, "high": 0.9}},
            train={"precision": {"choices": ["32-true", "bf16-mixed"]}},
            model={"convnet": {"depth": {"low": 1, "high": 3}}},
        )
    )
    assert [dimension.name for dimension in loaded.space] == [
        "model.convnet.depth", "optimizer.momentum", "regularization.l2", "train.precision",
    ]  # fmt: skip
    depth, momentum, l2, precision = loaded.space
    assert precision.choices == ("32-true", "bf16-mixed")
    assert (depth.low, depth.high, depth.integral, depth.log) == (1, 3, True, False)
    assert (momentum.integral, l2.log) == (False, True)


def test_a_path_without_meaning_for_the_chosen_family(load: Any) -> None:
    momentum, width = (
        load(space(model={"mlp": {"width": {"low": 1, "high": 3}}}, optimizer={"momentum": {"low": 0.5, "high": 0.9}}))
    ).space[::-1]
    sgd = load(SHIPPED)
    adam = load(change(optimizer={"momentum": None, "name": "adam"}))
    assert momentum.meaning_in(sgd) is None
    assert momentum.meaning_in(adam) == "adam has no momentum"
    assert width.meaning_in(sgd) == "model.name is convnet"
    ends = {"low": 1, "high": 2}
    rate, batches, clip = load(
        space(optimizer={"lr": ends}, train={"clip_norm": ends, "accumulate_batches": ends})
    ).space
    drawn = load(change(optimizer={"momentum": None, "name": "random_search"}))
    for dimension in (rate, batches, clip):
        assert dimension.meaning_in(sgd) is None
        assert dimension.meaning_in(drawn) == "random_search follows no slope"
    (rise,) = load(space(schedule={"one_cycle": {"rise": {"low": 0.1, "high": 0.5}}})).space
    assert (rise.meaning_in(sgd), rise.meaning_in(drawn)) == (None, "random_search follows no slope")
    whole = load(change(train={"batch_size": None}))
    assert batches.meaning_in(whole) == "train.batch_size: null makes one batch an epoch"


def test_a_setting_of_what_is_off_has_no_meaning(load: Any) -> None:
    within = {"low": 0.1, "high": 0.5}
    beta, dropout = load(space(regularization={"elastic_net_beta": within, "dropout": within})).space[::-1]
    on, linear = load(change(regularization={"elastic_net": 0.1})), load(change(model={"name": "linear"}))
    assert (beta.meaning_in(on), beta.meaning_in(linear)) == (None, "regularization.elastic_net is 0")
    assert (dropout.meaning_in(on), dropout.meaning_in(linear)) == (None, "linear has no hidden activations")
    both = load(space(regularization={"elastic_net_beta": within, "elastic_net": within}))
    assert [dimension.meaning_in(both) for dimension in both.space] == [None, None]


def test_what_is_learned_follows_from_the_loss_unless_it_rests(load: Any) -> None:
    numbers = load(change(loss={"name": "l1"}))
    assert (numbers.task, numbers.figure.name) == ("regression", "mae")
    plateau = {
        "name": "plateau",
        "plateau": {"monitor": "error", "patience_epochs": 1, "factor": 0.1},
    }  # refused where the loss is in force
    memory = load(change(loss={"name": "l1"}, model={"name": "neighbours"}, schedule=plateau))
    assert (memory.task, memory.figure.name) == ("classification", "accuracy")


def test_a_network_that_memorises_starts_from_nothing(load: Any) -> None:
    start = {"weights": "model", "up_to": None, "frozen": False}
    (said,) = mistakes(load, change(model={"name": "neighbours", "init_from": start}))
    assert said.endswith("init_from.weights: has no meaning for neighbours, which memorises images; set it to null")


def test_rules_between_sections_are_told_beside_what_is_wrong_elsewhere(load: Any) -> None:
    """And not where one of the two sections is wrong itself, which would be told twice, or not be readable."""
    search = {"optimizer": {"name": "random_search", "momentum": None}}
    said = mistakes(load, change(**search, train={"clip_norm": 1.0}, evaluate={"mistakes": -1}))
    assert [line.split(": ")[1] for line in said] == ["evaluate.mistakes", "train.clip_norm"]
    assert len(mistakes(load, change(**search, train={"clip_norm": 1.0, "epochs": 0}))) == 1
    assert len(mistakes(load, change(optimizer={"name": "random_search"}, train={"clip_norm": 1.0}))) == 1


def test_what_copies_are_made_of_has_no_meaning_in_a_search(load: Any) -> None:
    mixup, rotation = load(
        space(augment={"rotation_degrees": {"low": 0.0, "high": 9.0}, "mixup": {"low": 0.0, "high": 1.0}})
    ).space
    plain, copied = load(SHIPPED), load(change(augment={"copies": 2}))
    assert rotation.meaning_in(plain) is None
    assert rotation.meaning_in(copied) == "augment.copies are made before the search starts"
    assert mixup.meaning_in(copied) is None


# --- overlaying -------------------------------------------------------------------------------------------------------


def test_overlaid_values_replace_and_are_validated() -> None:
    loaded = params.load(ROOT / "params.yaml")
    changed = loaded.overlaid({"optimizer": {"lr": 0.5}, "model": {"name": "mlp"}})
    assert (changed.optimizer.lr, changed.optimizer.momentum, changed.model.settings.depth) == (0.5, 0.9, 2)
    assert loaded.optimizer.lr == 0.1
    assert loaded.overlaid({}) == loaded
    with pytest.raises(Mistake, match=r"overlaid values: optimizer\.lr: -1 is not allowed"):
        loaded.overlaid({"optimizer": {"lr": -1}})
    with pytest.raises(Mistake, match=r"optimizer\.rate: unknown key"):
        loaded.overlaid({"optimizer": {"rate": 1}})


def test_flat_leaves_out_families_that_rest() -> None:
    flat = params.load(ROOT / "params.yaml").flat()
    assert flat["model.convnet.width"] == 32
    assert not [key for key in flat if key.startswith(("model.mlp", "optimizer.adam", "loss.svm"))]
    assert flat["data.path"] is None


def test_the_tree_is_frozen() -> None:
    loaded = params.load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 3  # type: ignore[misc]


def test_read_mapping(tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    file.write_text("{}\n")
    assert params.read_mapping(file) == {}
    file.write_text("optimizer:\n  lr: 1e-3\n")
    assert params.read_mapping(file) == {"optimizer": {"lr": 0.001}}
    file.write_text("a: 1\na: 2\n")
    with pytest.raises(Mistake, match="duplicate key"):
        params.read_mapping(file)
