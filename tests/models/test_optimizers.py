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


def run(name: str, momentum: float | None, **values: float) -> np.ndarray:
    weight = nn.Parameter(torch.tensor(START))
    optimizer = OPTIMIZERS[name]([weight], catalogue.OPTIMIZERS[name](**values), LR, momentum)
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return weight.detach().numpy()


@pytest.mark.parametrize(("nesterov", "momentum"), [(False, 0.9), (True, 0.9), (True, 0.0)])
def test_sgd(nesterov, momentum):
    w, v = START.copy(), np.zeros_like(START)
    for g in GRADIENTS:
        v = momentum * v + g
        w = w - LR * (g + momentum * v if nesterov else v)
    np.testing.assert_allclose(run("sgd", momentum, nesterov=nesterov), w, rtol=1e-12)


def test_sgd_under_a_schedule_keeps_the_rate_out_of_the_velocity():
    """Rates 0.1, then 0.01, momentum 0.9, gradient 1: -0.119; with the rate inside the velocity it would be -0.2."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = OPTIMIZERS["sgd"]([weight], catalogue.Sgd(nesterov=False), 0.1, 0.9)
    for rate in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert weight.item() == pytest.approx(-0.119)


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


def test_adamw_leaves_biases_alone():
    bias = nn.Parameter(torch.ones(3))
    settings = catalogue.Adamw(beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.5)
    optimizer = OPTIMIZERS["adamw"]([bias], settings, LR, None)
    bias.grad = torch.zeros(3)
    optimizer.step()
    assert bias.tolist() == [1.0, 1.0, 1.0]
