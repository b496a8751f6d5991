"""report.html stands alone, runs nothing, asks for nothing and shows other people's text as text."""

import base64
import dataclasses
import io
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline import metrics, pictures, report
from pipeline.pictures import Mistaken
from pipeline.report import ClassCount, Content, LayerPicture, LeftOut, Picture
from pipeline.training.parameters import Searched

LEFT_OUT = [LeftOut(f"<u>{number}.jpg", "truncated") for number in range(15)]
CLASSES = ("<script>alert(1)</script>", 'a" onerror="alert(2)', "plain", "line\nbreak\x1b")


def png(value: int) -> bytes:
    return pictures.small_png(np.full((4, 4, 1), value, np.uint8))


def content(classes: tuple[str, ...] = CLASSES) -> Content:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(classes), 60)
    probabilities = rng.dirichlet(np.ones(len(classes)), size=60)
    test = metrics.evaluate(probabilities, labels, classes)
    return Content(
        model="convnet",
        source="digits",
        test=test,
        validation=metrics.evaluate(probabilities[:20], labels[:20], classes),
        learning_curves=Picture(png(1), png(2)),
        confusion=Picture(png(3), png(4)),
        mistakes=[
            Mistaken(np.full((8, 8, 1), 60 + i, np.uint8), f"<i>{i}</i>.png", int(labels[i]), 0, 0.2, 0.6)
            for i in (0, 1)
        ],
        searched=[Searched("optimizer.lr", 0.1, 0.073), Searched("optimizer.momentum", None, 0.9)],
        parameters=[("seed", 0), ("data.path", "<b>x"), ("augment.horizontal_flip", False), ("data.image_size", None)],
        counts=[ClassCount(name, 10, 2, 3) for name in classes],
        left_out=[],
        contact_sheet=Picture(png(5)),
    )


class Page(HTMLParser):
    """The page as a browser's parser sees it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return report.render(content())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def references(page: Page) -> Iterator[str]:
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            if name in attributes:
                yield attributes[name] or ""


def test_nothing_is_loaded_from_outside(page: Page, html: str):
    found = list(references(page))
    assert len(found) > 5
    assert {reference.split(",")[0] for reference in found} <= {"data:image/png;base64", "data:"}
    assert "://" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_the_page_forbids_itself_scripts_and_requests(page: Page):
    policies = [tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_class_names_and_paths_are_text_and_nothing_else(page: Page):
    assert {tag for tag, _ in page.tags} & {"script", "i", "b"} == set()
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for text in (CLASSES[0], CLASSES[1], "<i>0</i>.png", "<b>x", "line\\nbreak\\x1b"):
        assert text in page.text


def test_every_picture_is_whole_has_a_description_and_a_sentence(page: Page):
    images = page.named("img")
    assert len(images) == 3 + 2  # confusion, curves, contact sheet; two mistakes
    for attributes in images:
        assert attributes["alt"]
        data = base64.b64decode((attributes["src"] or "").split(",")[1])
        Image.open(io.BytesIO(data)).verify()
    open_sections: list[list[str]] = []
    for tag, _ in page.tags:
        if tag == "section":
            open_sections.append([])
        elif open_sections:
            open_sections[-1].append(tag)
    for tags in open_sections:
        if "img" in tags:
            assert tags.index("p") < tags.index("img")


def test_dark_pages_get_dark_pictures(page: Page):
    sources = page.named("source")
    assert [tag["media"] for tag in sources] == ["(prefers-color-scheme: dark)"] * 2
    dark = {base64.b64decode((tag["srcset"] or "").split(",")[1]) for tag in sources}
    assert dark == {png(2), png(4)}


def test_a_phone_is_told_its_width(page: Page):
    assert [tag["content"] for tag in page.named("meta") if tag.get("name") == "viewport"] == [
        "width=device-width, initial-scale=1"
    ]


def test_the_headline_and_the_tables_say_the_figures(page: Page):
    test = content().test
    assert f"{100 * test.accuracy:.2f} %" in page.text
    assert f"{test.correct} of 60 images right" in page.text
    for number in (*test.precision, *test.recall, *test.f1):
        assert f"{number:.3f}" in page.text
    for text in ("0.073", "optimizer.momentum", "null", "false", "40 training images, 8 validation and 12 test"):
        assert text in page.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"searched": []}, "Nothing was searched"),
        ({"searched": [Searched("optimizer.lr", 0.1, 0.1)]}, "none that was tried did better"),
        ({"left_out": LEFT_OUT[:1]}, "1 file could not be read and was left out"),
        ({"left_out": LEFT_OUT[:3]}, "3 files could not be read and were left out"),
        ({"left_out": LEFT_OUT[:1]}, "<u>0.jpg: truncated"),
        ({"left_out": LEFT_OUT}, "<u>9.jpg: truncated 5 more, in data/prepared/report.json"),
        ({"mistakes": []}, "evaluate.mistakes is 0"),
    ],
)
def test_special_cases_are_said(changes: dict[str, object], said: str):
    text = Page(report.render(dataclasses.replace(content(), **changes))).text
    assert said in " ".join(text.split())


@pytest.mark.parametrize(("kind", "title"), [("templates", "Templates"), ("filters", "First-layer filters")])
def test_a_first_layer_is_shown_under_its_name(kind: str, title: str, page: Page):
    shown = Page(report.render(dataclasses.replace(content(), first_layer=LayerPicture(kind, Picture(png(6), png(7))))))
    assert title in shown.text
    assert title not in page.text
    for value, tag, name in ((6, "img", "src"), (7, "source", "srcset")):
        found = [attributes[name] or "" for attributes in shown.named(tag)]
        assert base64.b64encode(png(value)).decode() in {uri.split(",")[1] for uri in found}


def test_of_what_memorises_neighbours_are_shown_and_no_curves(page: Page):
    shown = Page(report.render(dataclasses.replace(content(), learning_curves=None, neighbours=Picture(png(8)))))
    assert "Learning curves" in page.text
    assert "Learning curves" not in shown.text
    assert "Nearest neighbours" in shown.text
    assert "Nearest neighbours" not in page.text
    found = [attributes["src"] or "" for attributes in shown.named("img")]
    assert base64.b64encode(png(8)).decode() in {uri.split(",")[1] for uri in found}


def test_a_faultless_model_is_said_to_be_one():
    perfect = metrics.evaluate(np.eye(3), [0, 1, 2], "abc")
    faultless = dataclasses.replace(content(("a", "b", "c")), test=perfect, mistakes=[])
    text = Page(report.render(faultless)).text
    assert "No test image was classified wrongly" in text
    assert "100.00 %" in text


def test_99_996_percent_is_not_100():
    probabilities = np.tile([0.9, 0.1], (30_000, 1))
    almost = metrics.evaluate(probabilities, [1] + [0] * 29_999, "ab")
    text = Page(report.render(dataclasses.replace(content(("a", "b")), test=almost, mistakes=[]))).text
    assert "99.99 %" in text
    assert "100.00 %" not in text


def test_equal_content_gives_equal_pages(html: str):
    assert report.render(content()) == html
