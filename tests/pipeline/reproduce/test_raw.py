from pathlib import Path

from pipeline.data.listing import Item, Listing
from pipeline.reproduce.raw import changed_files, changed_or_why_not


def listing(path: Path, *items: Item) -> Path:
    path.write_bytes(Listing("folder", ("cat", "dog"), items, ()).to_bytes())
    return path


A, B, C = (Item(f"{name}.png", 10, name * 64, "cat", None) for name in "abc")


def test_files_that_changed_came_and_went(tmp_path):
    before = listing(tmp_path / "before", A, B)
    after = listing(tmp_path / "after", B._replace(size=11, sha256="f" * 64), C)
    assert changed_files(before, after) == [
        "a.png: gone",
        "b.png: other content (10 bytes before, 11 now)",
        "c.png: new",
    ]


def test_another_class_is_a_change(tmp_path):
    before, after = listing(tmp_path / "before", A), listing(tmp_path / "after", A._replace(label="dog"))
    assert changed_files(before, after) == ["a.png: another class or split"]


def test_a_list_that_differs_without_its_files_is_told(tmp_path):
    same = listing(tmp_path / "same", A)
    assert changed_or_why_not(same, same)[0].startswith("no file: ")


def test_a_list_of_another_form_is_told(tmp_path):
    (tmp_path / "old").write_text("{}")
    assert "cannot be told" in changed_or_why_not(tmp_path / "old", listing(tmp_path / "now", A))[0]
