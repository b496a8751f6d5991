"""`retrace gradcheck`: its table, its verdict, and what it says of kinks."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch

from models import catalogue
from models.gradients import entries
from models.gradients.check import Function
from pipeline import cli
from pipeline.errors import ExitStatus

Given = Callable[[Function], None]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Puts one function in the place of a loss's."""

    def give(function: Function) -> None:
        monkeypatch.setattr(entries, "losses", lambda name: iter([function]))

    return give


def test_everything_in_the_catalogue_is_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each entry alone is checked by the conformance suite: here each has one small function."""

    def small(name: str, loss: str = "softmax") -> Iterator[Function]:
        yield Function(name, lambda tensors: tensors["x"].square().sum(), {"x": torch.ones(3, dtype=torch.float64)})

    monkeypatch.setattr(entries, "networks", small)
    assert cli.main(["gradcheck"]) == ExitStatus.SUCCESS
    printed = capsys.readouterr().out
    learners = {name for name, entry in catalogue.NETWORKS.items() if not entry.memorises}
    for name in (*learners, *catalogue.LOSSES, "regularization: l1", "regularization: l2"):
        assert len(re.findall(rf"^{re.escape(name)} +│", printed, flags=re.MULTILINE)) == 2, name  # errors, costs
    for name in set(catalogue.NETWORKS) - learners:
        assert f"{name}: memorises" in printed
    too_long = [line for line in printed.splitlines() if len(line) > 100]
    assert not too_long


def test_a_network_under_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gradcheck", "--network", "linear", "--loss", "svm", "--verbose"]) == ExitStatus.SUCCESS
    printed = capsys.readouterr().out
    assert re.search(
        r"^linear under svm +│ +1,733 │ +29 │ +0 │ +0 │ +\d\.\de-\d\d │ +\S+ │ +ok", printed, flags=re.MULTILINE
    )
    assert re.search(r"^fc\.weight +│ +5 x 192 │ +12 │ +0 │ +0 │", printed, flags=re.MULTILINE)
    assert re.search(
        r"│ 3,466 in [\d.]+ m?s │ +1,733 in [\d.]+ m?s │ +[\d.]+ in [\d.]+ (µs|ms) *$", printed, re.MULTILINE
    )
    assert "linear under svm: walking along a line, the slope jumps from" in printed
    assert printed.endswith("all 3 gradients agree to 1e-06\n")


def test_a_wrong_gradient_ends_with_its_name(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    at = {"right": torch.ones(2, dtype=torch.float64), "wrong": torch.ones(2, dtype=torch.float64)}
    given(Function("mine", lambda tensors: (tensors["right"] * 2 + tensors["wrong"].detach()).sum(), at))
    assert cli.main(["gradcheck", "--loss", "svm"]) == ExitStatus.NEGATIVE_VERDICT
    printed = capsys.readouterr().out
    assert "WRONG" in printed
    assert printed.endswith(
        "mine: wrong: relative error 1.0e+00, reverse mode against central differences\n"
        "1 of 2 gradients are wrong, or cannot be judged\n"
    )


def test_kinks_are_explained(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    at = torch.linspace(0, 1, 9, dtype=torch.float64)
    given(Function("mine", lambda tensors: 3 * tensors["x"].abs().sum(), {"x": at}))
    assert cli.main(["gradcheck", "--loss", "svm"]) == ExitStatus.SUCCESS
    printed = capsys.readouterr().out
    assert "1 of 9 coordinates have a kink within their step; 1 are left out" in printed
    assert "such as mine, x, number 0: slope -3 on the left,\n    3 on the right; the gradient says 0" in printed


def test_too_many_kinks_fail(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given(Function("mine", lambda tensors: tensors["x"].abs().sum(), {"x": torch.zeros(9, dtype=torch.float64)}))
    assert cli.main(["gradcheck", "--loss", "svm"]) == ExitStatus.NEGATIVE_VERDICT
    assert "mine: x: 9 of 9 coordinates are at kinks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network", "cnvnet"], "--network cnvnet: not in the catalogue; did you mean 'convnet'?"),
        (["--loss", "sftmax"], "--loss sftmax: not in the catalogue; did you mean 'softmax'?"),
    ],
)
def test_an_unknown_name_is_a_mistake(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gradcheck", *words]) == ExitStatus.MISTAKE
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_what_memorises_has_no_gradient(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Memory(catalogue.Network):
        memorises = True

    monkeypatch.setitem(catalogue.NETWORKS, "memory", Memory)
    assert cli.main(["gradcheck", "--network", "memory"]) == ExitStatus.MISTAKE
    assert "--network memory: memorises the training images" in capsys.readouterr().err
