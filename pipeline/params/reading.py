"""From the text of a YAML file to a validated tree, with every mistake in one list: line, path, what is allowed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import Mistake
from pipeline.params import fields, space
from pipeline.params.fields import Path

Tree = TypeVar("Tree", bound=BaseModel)
_BY_RULE = "disagreement"


def read_mapping(file: File) -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain containers (best.yaml, model.yaml); {} for an empty file.

    Raises Mistake where it is not UTF-8, not YAML, not a mapping, or says something twice.
    """
    raw, _, duplicates = parse_yaml(read_text(file), str(file))
    if duplicates:
        raise Mistake(*(text for _, text in duplicates))
    return raw


def read_text(file: File) -> str:
    """A text file. Raises Mistake where it is not UTF-8 and FileNotFoundError where it is not."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Mistake(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def parse_yaml(text: str, file: str) -> tuple[dict[str, Any], dict[Path, int], list[tuple[int, str]]]:
    """The document, the line of every key path, and (line, message) for every key that is set twice."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.nodes import MappingNode

    lines: dict[Path, int] = {}
    duplicates: list[tuple[int, str]] = []

    def visit(node: Any, path: Path) -> None:
        if isinstance(node, MappingNode):
            for key, value in node.value:
                place = (*path, str(key.value))
                line = key.start_mark.line + 1
                if place in lines:
                    said = f"duplicate key; it is set at line {lines[place]} already, keep one"
                    duplicates.append((line, f"{file}:{line}: {'.'.join(place)}: {said}"))
                lines.setdefault(place, line)
                visit(value, place)

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True  # ruamel stops at the first; all of them are to be told
    try:
        document = reader.compose(text)
        visit(document, ())
        raw = reader.constructor.construct_document(document) if document is not None else None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Mistake(f"{file}{line}: not YAML: {error.problem}; mend the line or the one before it") from None
    except YAMLError as error:
        raise Mistake(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise Mistake(f"{file}: nested without end; remove the alias (*name) that contains itself") from None
    except ValueError as error:  # e.g. a date that no calendar has
        raise Mistake(f"{file}: not YAML: {error}; put the value in quotes") from None
    if raw is None:
        return {}, lines, duplicates
    if not isinstance(raw, dict):
        raise Mistake(f"{file}: must be a mapping of keys to values, is a {type(raw).__name__}")
    return raw, lines, duplicates


def validated(
    tree: type[Tree],
    raw: Mapping[str, Any],
    file: str,
    lines: Mapping[Path, int] | None = None,
    duplicates: Sequence[tuple[int, str]] = (),
) -> Tree:
    """`raw` as a `tree`. Raises Mistake with every mistake, in the order of the lines they stand on."""
    lines = lines or {}
    found = list(duplicates)
    for path, text in _mistakes(tree, raw):
        line = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), 0)
        found.append((line, f"{file}{f':{line}' if line else ''}: {'.'.join(path)}: {text}"))
    if found:
        raise Mistake(*(text for _, text in sorted(found, key=lambda item: item[0])))
    return tree.model_validate(raw)


def _mistakes(tree: type[BaseModel], raw: Mapping[Any, Any]) -> Iterator[tuple[Path, str]]:
    odd_keys = [key for key in raw if not isinstance(key, str)]
    for key in odd_keys:
        yield (str(key),), f"unknown key{fields.nearest(key, list(tree.model_fields))}"
    problems: list[Any] = []
    try:
        tree.model_validate({key: value for key, value in raw.items() if key not in odd_keys})
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not _told_elsewhere(problem)]
    wrong: set[Path] = set()
    for problem in problems:
        path = tuple(str(part) for part in problem["loc"])
        wrong |= {path[:end] for end in range(1, len(path) + 1)}
        yield path, _explain(tree, problem["type"], path, problem["input"], problem["msg"])
    sections: dict[str, BaseModel] = {}  # those without a mistake
    for name, field in tree.model_fields.items():
        section, values = fields.section_class(field), raw.get(name)
        if section is not None and issubclass(section, fields.Section) and isinstance(values, Mapping):
            # A family may be left out, which is the rules' to judge; any other absent key is told above already.
            given = dict.fromkeys(fields.families(section)) | dict(values)
            sound = {key: value for key, value in given.items() if (name, key) not in wrong}
            told = [((name, *key.split(".")), text) for key, text in section.disagreements(sound)]
            yield from told
            if not told and (name,) not in wrong:
                sections[name] = section.model_validate(values)
    if issubclass(tree, fields.Section):
        yield from ((tuple(key.split(".")), text) for key, text in tree.disagreements(sections))
    search = raw.get("search")
    ranges = search.get("space") if isinstance(search, Mapping) else None
    if isinstance(ranges, Mapping):
        for path, text in space.parse(tree, ranges)[1]:
            yield ("search", "space", *path), text


def _told_elsewhere(problem: Any) -> bool:
    """Rules between keys, and odd keys in search.space, are told by their own part of _mistakes."""
    return bool(problem["type"] == _BY_RULE or problem["loc"][-1:] == ("[key]",))


def _explain(tree: type[BaseModel], kind: str, path: Path, value: Any, message: str) -> str:
    field = fields.field_at(tree, path)
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key{fields.nearest(path[-1], list(fields.subfields(fields.model_at(tree, path[:-1]))))}"
    if kind == "missing":
        return f"missing; every value is explicit, add it ({fields.describe(field)})"
    if field is None:
        return message
    hint = fields.nearest(value, fields.choices(field), otherwise="") if isinstance(value, str) else ""
    return f"{fields.show(value)} is not allowed; must be {fields.describe(field)}{hint}"
