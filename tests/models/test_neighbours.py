"""The vote of the k nearest: against the rule written out in NumPy, ties above all; the same whichever way it goes."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import catalogue
from models.build import Description, build_network, load_model, save_model
from models.nearest import search
from models.networks.neighbours import TIE_BREAK
from models.networks.shape import Shape


def network(images, labels, k: int, distance: str = "l2", classes: int = 3):
    """Of rows of bytes (N, D), D a square, in one channel."""
    pixels = torch.as_tensor(np.asarray(images, dtype=np.uint8))
    side = round(pixels.shape[1] ** 0.5)
    module = build_network("neighbours", catalogue.Neighbours(k=k, distance=distance), Shape(1, side, classes), 0.0)
    module.reserve(len(pixels))
    for start in range(0, len(pixels), 4):
        module.memorise(
            pixels[start : start + 4].reshape(-1, 1, side, side).float(), torch.tensor(labels[start : start + 4]), start
        )
    return module.eval()


def asked(module, queries) -> torch.Tensor:
    """Scores of rows of bytes."""
    pixels = torch.as_tensor(np.asarray(queries, dtype=np.uint8))
    side = round(pixels.shape[1] ** 0.5)
    return module(pixels.reshape(-1, 1, side, side).float())


def the_rule(images: np.ndarray, labels: list[int], query: np.ndarray, k: int, distance: str) -> int:
    """Votes; of a tie the smaller summed distance, then the smaller label; equally distant: the lower index first."""
    differences = images.astype(np.float64) - query
    far = np.abs(differences).sum(1) if distance == "l1" else np.sqrt((differences**2).sum(1))
    voters = sorted(range(len(images)), key=lambda index: (far[index], index))[:k]
    votes = Counter(labels[index] for index in voters)
    sums = {label: sum(far[index] for index in voters if labels[index] == label) for label in votes}
    return min(votes, key=lambda label: (-votes[label], sums[label], label))


@st.composite
def questions(draw):
    """Small images of few values: many equal distances, many tied votes."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 30))
    images = generator.integers(0, draw(st.sampled_from([2, 4, 256])), (count + 8, 4)).astype(np.uint8)
    return images[count:], images[:count], generator.integers(0, 4, count).tolist(), draw(st.integers(1, count))


@pytest.mark.parametrize("distance", ["l1", "l2"])
@given(question=questions())
def test_answers_by_the_rule(distance, question):
    queries, images, labels, k = question
    scores = asked(network(images, labels, k, distance, classes=4), queries)
    expected = [the_rule(images, labels, query, k, distance) for query in queries]
    assert scores.softmax(1).argmax(1).tolist() == expected  # as a trained model tells it: by float32 probabilities


@pytest.mark.parametrize(
    ("images", "labels", "k", "winner"),
    [
        ([[3], [1], [2], [9]], [0, 2, 1, 0], 2, 2),  # one vote each: the nearer
        ([[3], [1], [4], [2]], [0, 2, 1, 0], 4, 0),  # two votes for 0
        ([[1], [4], [2], [2]], [2, 2, 1, 1], 4, 1),  # two votes each: 1 + 4 against 2 + 2
        ([[2], [2], [1], [3]], [2, 2, 1, 1], 4, 1),  # equal sums: the smaller label
        ([[1], [1], [1]], [2, 0, 1], 2, 0),  # all equally far: the first two enter; equal sums: the smaller label
    ],
)
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_ties(images, labels, k, winner, distance):
    assert asked(network(images, labels, k, distance), [[0]]).argmax(1).tolist() == [winner]


def test_a_tie_is_decided_by_roots_not_by_squares():
    """1 + 8 is less than 5 + 5, but 1 + 64 is more than 25 + 25."""
    images = [[5], [5], [1], [8]]
    assert asked(network(images, [0, 0, 1, 1], 4), [[0]]).argmax(1).tolist() == [1]


def test_probabilities_are_shares_of_the_votes_and_one_more():
    shares = asked(network([[1], [2], [3], [4], [5]], [0, 0, 0, 1, 1], 5), [[0]]).exp()[0].tolist()
    assert shares == pytest.approx([(3 + 1 / 3) / 6, (2 + 1 / 3) / 6, (1 / 3) / 6], rel=1e-6)
    tied = asked(network([[1], [2], [3], [4]], [1, 0, 0, 1], 4), [[0]]).exp()[0].tolist()
    whole = 5 + TIE_BREAK
    assert tied == pytest.approx([(2 + TIE_BREAK + 1 / 3) / whole, (2 + 1 / 3) / whole, (1 / 3) / whole], rel=1e-6)


def test_the_largest_tie_is_still_decided_in_float32():
    """5,000 votes each, of the most that k may be; the class of the larger label is nearer."""
    images = np.full((10_000, 1), 9)
    images[5_000] = 8
    module = network(images, [0] * 5_000 + [1] * 5_000, 10_000)
    assert asked(module, [[0]]).softmax(1).argmax(1).tolist() == [1]


def test_any_kind_of_number_is_taken_for_the_byte_it_stands_for():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 16))
    module = network(images, generator.integers(0, 3, 40).tolist(), 3)
    queries = torch.from_numpy(generator.integers(0, 256, (9, 1, 4, 4)).astype(np.uint8))
    expected = module(queries)
    for pixels in (queries.float() + 1e-4, queries.bfloat16(), queries.half(), queries.double()):
        assert torch.equal(module(pixels), expected)
    assert torch.equal(module(queries.float().to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_exported_it_gives_the_same_bits(distance, tmp_path):
    """Through the plain search, which the compiled one is checked against where it was not meant to run."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 50).tolist()
    module = network(generator.integers(0, 3, (50, 16)), labels, 4, distance)
    queries = torch.from_numpy(generator.integers(0, 3, (30, 1, 4, 4))).float()
    expected = module(queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "nearest", lambda *arguments: pytest.fail("compiled search in an export"))
        exported = torch.export.export(module, (queries[:2],), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(exported, tmp_path / "exported.pt2")
        again = torch.export.load(tmp_path / "exported.pt2").module()
        assert torch.equal(again(queries), expected)


def test_model_files_hold_the_images(tmp_path):
    generator = np.random.default_rng(2)
    module = network(generator.integers(0, 256, (25, 16)), generator.integers(0, 3, 25).tolist(), 2)
    description = Description(
        network="neighbours", network_settings={"k": 2, "distance": "l2"}, dropout=0.0, loss="softmax",
        loss_settings={"label_smoothing": 0.0}, classes=["a", "b", "c"], image_size=4, channels=1, mean=[0.0],
        std=[1 / 255],
    )  # fmt: skip
    save_model(tmp_path, module, description)
    queries = torch.from_numpy(generator.integers(0, 256, (9, 4, 4, 1)).astype(np.uint8))
    probabilities = load_model(tmp_path)(queries)
    torch.testing.assert_close(probabilities, module(queries.permute(0, 3, 1, 2)).exp())
    other = copy.deepcopy(module)
    other.reserve(3)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.images, module.images)
