"""What a model was trained with: written by train beside the weights, read by evaluate and the summary.

It stands with the model and not only in params.yaml, so that whoever shows it depends on the model alone, and shows
what was in force when it was trained.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params import Params, is_operational, leaves
from pipeline.params.fields import flattened

FILE = paths.MODEL / "parameters.json"
_NOT_OF_TRAINING = ("data", "search", "evaluate", "tracking")  # sections; data counts through data/prepared


@dataclass(frozen=True)
class Searched:
    """A key that the search set."""

    name: str
    before: Any  # in params.yaml
    chosen: Any


@dataclass(frozen=True)
class TrainingParameters:
    """The keys in force, by dotted path, and those of them that the search set."""

    in_force: Mapping[str, Any]
    searched: tuple[Searched, ...]

    def laid_over(self, own: Params) -> Params:
        """params.yaml's tree with the values that the model was really trained with."""
        tree: dict[str, Any] = {}
        for item in self.searched:
            *sections, key = item.name.split(".")
            node = tree
            for section in sections:
                node = node.setdefault(section, {})
            node[key] = item.chosen
        return own.overlaid(tree)

    def to_json(self) -> str:
        searched = [[item.name, item.before, item.chosen] for item in self.searched]
        return json.dumps({"in_force": dict(self.in_force), "searched": searched}, indent=1) + "\n"


def _rests(key: str) -> bool:
    """Whether a key has no effect on a network that memorises."""
    section, *rest = key.split(".")
    used = {"augment": ("crop_size", "copies"), "train": ("threads", "accelerator")}
    resting = section in ("loss", "regularization", "optimizer", "schedule")
    return resting or (section in used and rest[0] not in used[section])


def training_parameters(own: Params, best: Mapping[str, Any]) -> TrainingParameters:
    """Of params.yaml's own values with the search's `best` laid over them."""
    memorises = own.model.settings.memorises  # a search changes no family
    operational = {".".join(path) for path, field in leaves() if is_operational(field)}
    in_force = {
        key: value
        for key, value in own.overlaid(best).flat().items()
        if key.split(".")[0] not in _NOT_OF_TRAINING and key not in operational and not (memorises and _rests(key))
    }
    before = own.flat()
    return TrainingParameters(in_force, tuple(Searched(name, before.get(name), v) for name, v in flattened(best)))


def read_training_parameters() -> TrainingParameters:
    """What train wrote. Raises Mistake where it is missing or damaged."""
    remedy = "`dvc repro` makes it (after a change by hand: `dvc repro --force train`)"
    try:
        content = json.loads(FILE.read_text(encoding="utf-8"))
        searched = tuple(Searched(name, before, chosen) for name, before, chosen in content["searched"])
        return TrainingParameters(dict(content["in_force"]), searched)
    except FileNotFoundError:
        raise Mistake(f"{FILE}: not found; {remedy}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Mistake(f"{FILE}: damaged ({error}); {remedy}") from None
