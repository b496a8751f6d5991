"""Every update rule for several steps against its formula in NumPy, float64."""

import numpy as np
import pytest
import torch
from torch import nn

from models import catalogue
from models.optimizers import OPTIMIZERS, Muon, orthogonalized

LR = 0.05
GRADIENTS = np.random.default_rng(0).normal(size=(6, 2, 3))
START = np.random.default_rng(1).normal(size=(2, 3))


def optimizer_of(name: str, momentum: float | None, **values: float) -> tuple[torch.optim.Optimizer, nn.Parameter]:
    weight = nn.Parameter(torch.tensor(START))
    return OPTIMIZERS[name]([weight], catalogue.OPTIMIZERS[name](**values), LR, momentum), weight


def stepped(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradient: np.ndarray) -> None:
    weight.grad = torch.tensor(gradient)
    optimizer.step()


def run(name: str, momentum: float | None, **values: float) -> np.ndarray:
    optimizer, weight = optimizer_of(name, momentum, **values)
    for gradient in GRADIENTS:
        stepped(optimizer, weight, gradient)
    return weight.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.9), (True, 0.9), (True, 0.0)])
def test_sgd(nesterov, momentum, decay):
    w, v = START.copy(), np.zeros_like(START)
    for gradient in GRADIENTS:
        g = gradient + decay * w
        v = momentum * v + g
        w = w - LR * (g + momentum * v if nesterov else v)
    found = run("sgd", momentum, nesterov=nesterov, rate_inside=False, weight_decay=decay)
    np.testing.assert_allclose(found, w, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.9), (True, 0.9), (True, 0.0)])
def test_at_a_constant_rate_it_does_not_matter_where_the_rate_stands(nesterov, momentum, decay):
    settings = {"nesterov": nesterov, "weight_decay": decay}
    inside, outside = (run("sgd", momentum, **settings, rate_inside=where) for where in (True, False))
    np.testing.assert_allclose(inside, outside, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_the_rate_inside_under_a_schedule(nesterov):
    """Nesterov's form looks ahead: the gradient at w + momentum v (Sutskever 2013), which is what w here stands for."""
    optimizer, weight = optimizer_of("sgd", 0.9, nesterov=nesterov, rate_inside=True, weight_decay=0.0)
    w, v = START.copy(), np.zeros_like(START)
    for step, g in enumerate(GRADIENTS):
        rate = LR / (1 + step)
        optimizer.param_groups[0]["lr"] = rate
        stepped(optimizer, weight, g)
        v = 0.9 * v - rate * g
        w = w + 0.9 * v - rate * g if nesterov else w + v
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-12)


@pytest.mark.parametrize(("inside", "expected"), [(False, -0.119), (True, -0.2)])
def test_the_two_places_of_the_rate_under_a_schedule_worked(inside, expected):
    """Rates 0.1, then 0.01, momentum 0.9, gradient 1."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    settings = catalogue.Sgd(nesterov=False, rate_inside=inside, weight_decay=0.0)
    optimizer = OPTIMIZERS["sgd"]([weight], settings, 0.1, 0.9)
    for rate in (0.1, 0.01):
        for group in optimizer.param_groups:
            group["lr"] = rate
        stepped(optimizer, weight, np.ones(1))
    assert weight.item() == pytest.approx(expected)


def test_alexnet():
    """v <- 0.9 v - 0.0005 eps w - eps g; w <- w + v, as printed, with eps divided by ten on the way."""
    optimizer, weight = optimizer_of("alexnet", 0.9, weight_decay=0.0005)
    w, v = START.copy(), np.zeros_like(START)
    for step, g in enumerate(GRADIENTS):
        eps = 0.01 if step < 3 else 0.001
        for group in optimizer.param_groups:
            group["lr"] = eps
        stepped(optimizer, weight, g)
        v = 0.9 * v - 0.0005 * eps * w - eps * g
        w = w + v
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-12)
    assert catalogue.AlexnetRule.own_momentum == 0.9


def test_adagrad():
    w, s = START.copy(), np.zeros_like(START)
    for g in GRADIENTS:
        s = s + g**2
        w = w - LR * g / (np.sqrt(s) + 1e-6)
    np.testing.assert_allclose(run("adagrad", None, eps=1e-6), w, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_whose_momentum_is_a_velocity_of_rescaled_gradients(momentum):
    w, s, u = START.copy(), np.zeros_like(START), np.zeros_like(START)
    m, of_means = np.zeros_like(START), START.copy()  # what a first-moment average would do instead
    for g in GRADIENTS:
        s = 0.95 * s + 0.05 * g**2
        u = momentum * u + g / (np.sqrt(s) + 1e-6)
        w = w - LR * u
        m = momentum * m + (1 - momentum) * g
        of_means = of_means - LR * m / (np.sqrt(s) + 1e-6)
    found = run("rmsprop", momentum, alpha=0.95, eps=1e-6)
    np.testing.assert_allclose(found, w, rtol=1e-12)
    assert np.allclose(found, of_means) == (momentum == 0)


def test_random_search_keeps_the_best_draw_of_each_batch():
    """Against NumPy, on the numbers that torch's generator gives; every batch has an objective of its own."""
    weight = nn.Parameter(torch.tensor(START))
    bias = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = OPTIMIZERS["random_search"]([weight, bias], catalogue.RandomSearch(scale=0.5), LR, None)

    def objective(w, b, centre):
        return float(((w - centre) ** 2).sum() + (b**2).sum())

    torch.manual_seed(3)
    draws = [[torch.empty_like(p).normal_(std=0.5).numpy() for p in (weight, bias)] for _ in range(30)]
    torch.manual_seed(3)
    best, kept = None, []
    for step, draw in enumerate(draws):
        centre = GRADIENTS[step % 6] / 5
        before = [p.detach().numpy().copy() for p in (weight, bias)]
        loss = optimizer.step(lambda c=centre: objective(weight.detach().numpy(), bias.detach().numpy(), c))
        assert loss == objective(*before, centre), "a step reports the loss of the weights before it"
        if best is None or objective(*draw, centre) < objective(*best, centre):
            best = draw
            kept.append(step)
        np.testing.assert_array_equal(weight.detach().numpy(), best[0])
        np.testing.assert_array_equal(bias.detach().numpy(), best[1])
    assert kept[0] == 0, "the first draw is kept, whatever stood there before"
    assert 2 < len(kept) < 25


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adamw", 0.1)])
def test_adam(name, decay):
    b1, b2, eps = 0.9, 0.99, 1e-8
    w, m, v = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for t, g in enumerate(GRADIENTS, 1):
        w = w - LR * decay * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - LR * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    values = {"beta1": b1, "beta2": b2, "eps": eps} | ({"weight_decay": decay} if name == "adamw" else {})
    np.testing.assert_allclose(run(name, None, **values), w, rtol=1e-12)


def test_muon_is_torchs_on_matrices_and_nesterov_on_vectors():
    ours, theirs = (nn.Parameter(torch.tensor(START, dtype=torch.float32)) for _ in range(2))
    vector, bank = nn.Parameter(torch.ones(3)), nn.Parameter(torch.tensor(START, dtype=torch.float32)[:, :, None, None])
    settings = catalogue.Muon(weight_decay=0.1, vector_lr_factor=2.0)
    optimizer = OPTIMIZERS["muon"]([ours, vector, bank], settings, LR, 0.9)
    reference = torch.optim.Muon([theirs], lr=LR, weight_decay=0.1, momentum=0.9)
    w, v = np.ones(3), np.zeros(3)
    for gradient in GRADIENTS:
        ours.grad, theirs.grad = (torch.tensor(gradient, dtype=torch.float32) for _ in range(2))
        bank.grad, vector.grad = ours.grad[:, :, None, None], ours.grad[0].clone()
        optimizer.step()
        reference.step()
        v = 0.9 * v + gradient[0]
        w = w - 2.0 * LR * (gradient[0] + 0.9 * v)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # directions are computed in bfloat16
    assert torch.equal(bank[:, :, 0, 0], ours)
    np.testing.assert_allclose(vector.detach().numpy(), w, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (4, 50), (50, 4)])
def test_orthogonalized_keeps_the_singular_vectors(shape):
    matrix = torch.tensor(np.random.default_rng(3).normal(size=shape), dtype=torch.float32)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalized(matrix, Muon.COEFFICIENTS) @ vh.T
    assert torch.diag(inner).min() > 0.5
    assert torch.diag(inner).max() < 1.3
    assert (inner - torch.diag(torch.diag(inner))).abs().max() < 0.05


DECAYING = {
    "sgd": catalogue.Sgd(nesterov=False, rate_inside=False, weight_decay=0.5),
    "alexnet": catalogue.AlexnetRule(weight_decay=0.5),
    "adamw": catalogue.Adamw(beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.5),
    "muon": catalogue.Muon(weight_decay=0.5, vector_lr_factor=3.0),
}


def test_every_optimizer_that_decays_is_listed():
    assert set(DECAYING) == {name for name, it in catalogue.OPTIMIZERS.items() if "weight_decay" in it.model_fields}


@pytest.mark.parametrize("name", DECAYING)
def test_weight_decay_leaves_biases_alone(name):
    bias, weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 3))
    momentum = catalogue.OPTIMIZERS[name].own_momentum
    optimizer = OPTIMIZERS[name]([bias, weight], DECAYING[name], LR, momentum)
    bias.grad, weight.grad = torch.zeros(3), torch.zeros(2, 3)
    optimizer.step()
    assert bias.tolist() == [1.0, 1.0, 1.0]
    assert torch.allclose(weight, torch.tensor(1 - LR * 0.5))
