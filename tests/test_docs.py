"""What can be named is named to the user, and every page can be found from README."""

import re
from pathlib import Path

import pytest

from models import catalogue
from pipeline.params.sources import SOURCES

ROOT = Path(__file__).parents[1]
FAMILIES = {
    "networks": catalogue.NETWORKS,
    "losses": catalogue.LOSSES,
    "optimizers": catalogue.OPTIMIZERS,
    "schedules": catalogue.SCHEDULES,
}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", FAMILIES)
def test_readme_names_every_family_in_the_row_of_its_kind(kind: str) -> None:
    (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", text("README.md"), flags=re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", row))
    assert named >= set(FAMILIES[kind]), f"README's row of {kind} lacks {set(FAMILIES[kind]) - named}"


@pytest.mark.parametrize("kind", ["losses", "optimizers", "schedules"])
def test_the_page_on_training_has_a_row_for_each(kind: str) -> None:
    rows = set(re.findall(r"^\| `(\w+)`", text("docs/training.md"), flags=re.MULTILINE))
    assert rows >= set(FAMILIES[kind]), f"docs/training.md lacks {set(FAMILIES[kind]) - rows}"


def test_the_page_on_tasks_has_each_loss_in_the_row_of_its_task() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| ((?:`\w+`(?:, )?)+) \|", text("docs/tasks.md"), flags=re.MULTILINE))
    assert {task: set(re.findall(r"`(\w+)`", losses)) for task, losses in rows.items()} == {
        task: {name for name, loss in catalogue.LOSSES.items() if loss.task == task} for task in catalogue.FIGURES
    }


def test_the_page_on_data_names_every_source() -> None:
    page = text("docs/data.md")
    absent = [name for name in SOURCES if f"`{name}`" not in page and f"source: {name}" not in page]
    assert not absent


def test_readme_has_a_row_for_each_recipe() -> None:
    rows = set(re.findall(r"^\| `([\w-]+)`(?: \([^|]*\))? \| 0\.\d+ \|", text("README.md"), flags=re.MULTILINE))
    assert rows == {file.stem for file in (ROOT / "docs/recipes").glob("*.yaml")}


def test_every_page_and_benchmark_can_be_found_from_readme() -> None:
    readme = text("README.md")
    pages = [file.name for file in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"](docs/{name})" not in readme] == []
    programs = [file.name for file in (ROOT / "benchmarks").glob("*.py") if "__main__" in file.read_text("utf-8")]
    assert [name for name in programs if f"`{name}`" not in readme and f"/{name} " not in readme] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{f.name}" for f in ROOT.glob("docs/*.md"))])
def test_what_a_page_links_to_is_there(page: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(page))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
