"""The house as docs/architecture.md draws it: who imports whom, and what each stage's result depends on."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from models import catalogue
from pipeline import params
from pipeline.params.sources import SOURCES

ROOT = Path(__file__).parent.parent
STAGES = ("source", "prepare", "augment", "search", "train", "evaluate")

# The four floors, from the ground up: a module imports from its own floor and those below. The longest matching name
# counts, so that a package's module may stand on another floor than the package. docs/architecture.md shows this table.
FLOORS: dict[str, int] = {
    "models": 0,
    "pipeline": 0,
    "pipeline.drawing": 0,
    "pipeline.errors": 0,
    "pipeline.locks": 0,
    "pipeline.machine": 0,
    "pipeline.paths": 0,
    "pipeline.seeding": 0,
    "pipeline.params": 1,
    "pipeline.stage": 1,
    "pipeline.lineage": 1,
    "pipeline.state": 1,
    "pipeline.data": 1,
    "pipeline.pictures": 1,
    "pipeline.plane": 1,
    "pipeline.weights_picture": 1,
    "pipeline.neighbours": 1,
    "pipeline.metrics": 1,
    "pipeline.canvas": 1,
    "pipeline.figures": 1,
    "pipeline.graph_figure": 1,
    "pipeline.report": 1,
    "pipeline.evaluation": 1,
    "pipeline.inference": 1,
    "pipeline.tracking": 1,
    "pipeline.training.parameters": 1,
    "pipeline.reproduce.fetch": 1,
    "pipeline.initial": 2,
    "pipeline.training": 2,
    "pipeline.source": 2,
    "pipeline.prepare": 2,
    "pipeline.augment": 2,
    "pipeline.evaluate": 2,
    "pipeline.search": 3,
    "pipeline.train": 3,
    "pipeline.commands": 3,
    "pipeline.reproduce": 3,
    "pipeline.studies": 3,
    "pipeline.cli": 3,
}

# Code that changes no output: their own values are tracked as params, they keep what is under way, or they tell MLflow
# what was made.
NO_DEPENDENCY = ("pipeline.params", "models.catalogue", "pipeline.tracking", "pipeline.lineage", "pipeline.state")

# Who finds modules by the name in params.yaml: only the chosen one counts, so that adding one makes nothing stale.
BY_NAME = {
    "models.build": ("models/networks/${model.name}.py", [f"models.networks.{name}" for name in catalogue.NETWORKS]),
    "pipeline.data.sources": (
        "pipeline/data/sources/${data.source}.py",
        [f"pipeline.data.sources.{name}" for name in SOURCES],
    ),
}


# --- what imports what ------------------------------------------------------------------------------------------------


@cache
def modules() -> dict[str, Path]:
    """Every module of the project, by its dotted name."""
    files = [file for top in ("models", "pipeline") for file in sorted((ROOT / top).rglob("*.py"))]
    return {_dotted(file): file for file in files}


def _dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported_names(module: str) -> frozenset[str]:
    """Dotted names that a module imports anywhere in it, inside functions too; not those for type checking alone."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import; write the whole name"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(inner)
            if not inner <= set(modules()):
                names.add(str(node.module))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(modules()[module].read_text(encoding="utf-8")))
    return frozenset(names)


@cache
def uses(module: str) -> frozenset[str]:
    """The project's modules that a module imports itself; a package whose own code is empty is left out."""
    found = {name for name in imported_names(module) if name in modules() and name != module}
    return frozenset(name for name in found if _has_code(name))


@cache
def _has_code(module: str) -> bool:
    body = ast.parse(modules()[module].read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


@cache
def reached(module: str, without: tuple[str, ...] = ()) -> frozenset[str]:
    """A module and all it imports, directly or not, never going through those named in `without`."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and not _within(name, without):
            found.add(name)
            waiting += uses(name)
            for family in BY_NAME[name][1] if name in BY_NAME else []:  # what any of them needs, but none of them
                waiting += uses(family)
            waiting += [package for package in _packages_of(name) if _has_code(package)]  # Python runs them too
    return frozenset(found)


def _packages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _floor(module: str) -> int:
    name = module
    while name:
        if name in FLOORS:
            return FLOORS[name]
        name = name.rpartition(".")[0]
    raise AssertionError(f"{module}: on no floor; give it one in FLOORS and in docs/architecture.md")


def _listed(module: str) -> bool:
    """Whether FLOORS names the module, or a package other than `pipeline` itself that holds it."""
    return _within(module, tuple(name for name in FLOORS if name != "pipeline")) or module == "pipeline"


@pytest.mark.parametrize("module", modules())
def test_no_import_goes_up(module: str) -> None:
    assert _listed(module), f"{module}: on no floor; give it one in FLOORS and in docs/architecture.md"
    above = {name: _floor(name) for name in uses(module) if _floor(name) > _floor(module)}
    assert not above, f"{module} on floor {_floor(module)} imports from above: {above}"


def test_every_floor_names_something_that_is_there() -> None:
    gone = [name for name in FLOORS if name not in modules()]
    assert not gone, f"FLOORS names what is not there: {gone}"


@pytest.mark.parametrize("module", [name for name in modules() if name.split(".")[0] == "models"])
def test_models_know_nothing_of_the_pipeline(module: str) -> None:
    assert not [name for name in imported_names(module) if name.split(".")[0] == "pipeline"]


@pytest.mark.parametrize("module", modules())
def test_no_module_imports_a_stage(module: str) -> None:
    stages = {f"pipeline.{stage}" for stage in STAGES} - {module}
    assert not imported_names(module) & stages, f"{module} imports a stage; move what both need into a module below"


@pytest.mark.parametrize("module", [name for name in modules() if not _within(name, ("pipeline.tracking",))])
def test_only_tracking_imports_mlflow(module: str) -> None:
    assert not [name for name in imported_names(module) if name.split(".")[0] == "mlflow"]


def test_imports_make_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"circle: {' -> '.join((*way, module))}"
        if module not in done:
            for name in uses(module):
                visit(name, (*way, module))
            done.add(module)

    for module in modules():
        visit(module, ())


@pytest.mark.parametrize(
    "module",
    [
        "pipeline.params", "pipeline.stage", "pipeline.cli", "pipeline.tracking.run", "pipeline.source",
        "pipeline.prepare", "pipeline.augment",
    ],
)  # fmt: skip
def test_light_modules_pull_in_nothing_heavy(module: str) -> None:
    """In a fresh interpreter: what a module imports where it is imported, through whatever library."""
    heavy = ["torch", "pytorch_lightning", "torchmetrics", "mlflow", "sklearn", "pandas", "matplotlib", "optuna", "dvc"]
    code = f"import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


# --- dvc.yaml ---------------------------------------------------------------------------------------------------------


@cache
def pipeline_file() -> dict[str, dict[str, object]]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def code_dependencies(stage: str) -> set[str]:
    """The files that a stage's result depends on, as dvc.yaml must list them."""
    found = reached(f"pipeline.{stage}", NO_DEPENDENCY)
    files = {modules()[name].relative_to(ROOT).as_posix() for name in found}
    for name in found:  # what lies beside a package's code is read by it: templates
        folder = modules()[name].parent
        if modules()[name].name == "__init__.py":
            files |= {
                other.relative_to(ROOT).as_posix()
                for other in folder.iterdir()
                if other.is_file() and other.suffix not in (".py", ".pyc")
            }
    return files | {template for name, (template, _) in BY_NAME.items() if name in found} | {"constraints.txt"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_files_it_imports(stage: str) -> None:
    listed = {str(dep) for dep in pipeline_file()[stage].get("deps", [])}  # type: ignore[attr-defined]
    code = {dep for dep in listed if not dep.startswith(("data/", "artifacts/"))}
    right = code_dependencies(stage)
    paste = "\n".join(f"      - {name}" for name in sorted(right))
    assert code == right, (
        f"dvc.yaml, stage {stage}: missing {sorted(right - code)}, too many {sorted(code - right)}; its code:\n{paste}"
    )


def test_the_stages_are_the_six_in_order_and_run_themselves() -> None:
    assert tuple(pipeline_file()) == STAGES
    for name, stage in pipeline_file().items():
        assert stage["cmd"] == f"python -m pipeline.{name}"


def test_only_evaluate_sees_the_test_split() -> None:
    for name, stage in pipeline_file().items():
        deps = [str(dep) for dep in stage.get("deps", [])]  # type: ignore[attr-defined]
        assert ("data/test" in deps) == (name == "evaluate")
        assert not [dep for dep in deps if dep in ("data", "data/")]


def _in_params(stage: str) -> list[str]:
    return [str(key) for key in pipeline_file()[stage].get("params", [])]  # type: ignore[attr-defined]


def _tracks(stage: str, path: tuple[str, ...]) -> bool:
    """Whether a stage goes stale when the value at `path` changes, its family being the chosen one."""
    keys = [re.sub(r"\$\{\w+\.\w+\}", path[1], key) if len(path) == 3 else key for key in _in_params(stage)]
    return any(path[: len(key.split("."))] == tuple(key.split(".")) for key in keys)


# What each stage's code reads of params.yaml. evaluate writes all that was in force into the report.
READS = {
    "source": ("data.source", "data.path", "model.init_from.weights"),
    "prepare": ("seed", "data"),
    "augment": ("seed", "augment"),
    "search": ("seed", "augment", "model", "loss", "regularization", "optimizer", "schedule", "train", "search"),
    "train": ("seed", "augment", "model", "loss", "regularization", "optimizer", "schedule", "train"),
    "evaluate": ("data.source", "data.path", "train.threads", "train.accelerator", "evaluate"),
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_the_values_it_reads_and_no_operational_one(stage: str) -> None:
    for path, field in params.leaves():
        read = any(path[: len(key.split("."))] == tuple(key.split(".")) for key in READS[stage])
        read |= stage == "source" and path[0] == "data" and len(path) == 3  # how its kind lists
        expected = read and not params.is_operational(field)
        assert _tracks(stage, path) == expected, (
            f"dvc.yaml, stage {stage}: {'add' if expected else 'remove'} the parameter {'.'.join(path)}"
        )


def test_every_value_that_is_not_operational_makes_some_stage_stale() -> None:
    for path, field in params.leaves():
        tracked = any(_tracks(stage, path) for stage in STAGES)
        assert tracked != params.is_operational(field), ".".join(path)


@pytest.mark.parametrize("stage", STAGES)
def test_a_family_that_rests_makes_nothing_stale(stage: str) -> None:
    sections = {path[0] for path, _ in params.leaves() if len(path) == 3}
    assert not sections & set(_in_params(stage)), "list the keys of the section, not the section: NAME.${NAME.name}"


# --- docs/architecture.md ---------------------------------------------------------------------------------------------


def test_the_page_shows_every_module_on_its_floor() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) [^|]*\| ([^|]*)\|", text, flags=re.MULTILINE)
    shown = {name: int(floor) for floor, names in rows for name in re.findall(r"`([\w.]+)`", names)}
    assert shown == {name: floor for name, floor in FLOORS.items() if name != "pipeline"}
    absent = [name for name in modules() if _has_code(name) and not re.search(rf"\b{name.split('.')[-1]}\b", text)]
    assert not absent, f"docs/architecture.md does not name {absent}"
