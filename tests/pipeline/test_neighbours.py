"""The sheet of images and their neighbours: what is right, what is wrong, and what does not vote can be told apart."""

import io

import numpy as np
import torch
from PIL import Image

from models import catalogue
from models.build import build_network
from models.networks.shape import Shape
from pipeline.neighbours import neighbours_sheet

RIGHT, WRONG = (0, 128, 94), (201, 52, 43)
NAMES = ["dark", "a name that is too long for its place"]


def sheet(k: int, memorised: list[int], distance: str = "l2") -> tuple[bytes, set[tuple[int, int, int]]]:
    """Of one black image of class 0 beside grey ones of brightness 1, 2, ... of the given classes; its colours."""
    network = build_network("neighbours", catalogue.Neighbours(k=k, distance=distance), Shape(3, 4, 2), 0.0)
    network.reserve(len(memorised))
    grey = torch.arange(1, 1 + len(memorised)).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    network.memorise(grey, torch.tensor(memorised), 0)
    png = neighbours_sheet(network, np.zeros((1, 4, 4, 3), np.uint8), np.array([0]), NAMES)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return png, {colour for _, colour in picture.getcolors(1 << 20)}


def test_neighbours_of_the_own_class_are_green_others_red_those_without_a_vote_pale():
    assert {RIGHT, WRONG} & sheet(1, [0, 1])[1] == {RIGHT}
    assert {RIGHT, WRONG} & sheet(1, [1, 0])[1] == {WRONG}
    assert {RIGHT, WRONG} & sheet(2, [1, 0])[1] == {RIGHT, WRONG}
    pale = {tuple(round(255 - 0.4 * (255 - part)) for part in colour) for colour in (RIGHT, WRONG)}
    assert pale & sheet(1, [0, 1])[1] == {tuple(round(255 - 0.4 * (255 - part)) for part in WRONG)}


def test_the_same_input_gives_the_same_bytes_and_another_answer_others():
    assert sheet(1, [0, 1])[0] == sheet(1, [0, 1])[0]
    assert len({sheet(1, [0, 1])[0], sheet(1, [1, 0])[0], sheet(1, [0, 1], "l1")[0], sheet(2, [0, 1])[0]}) == 4


def test_it_shows_more_than_those_that_vote_and_not_more_than_there_are():
    widths = [Image.open(io.BytesIO(sheet(1, [0] * count)[0])).width for count in (2, 4, 6, 20)]
    assert widths[0] < widths[1] < widths[2] == widths[3]
    assert Image.open(io.BytesIO(sheet(9, [0] * 20)[0])).width > widths[3]
