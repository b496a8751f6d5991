"""The share of saddle points among critical points, by dimension, on random smooth surfaces.

    retrace study saddles

Random cubics f(x) = sum a_i x_i + sum M_ij x_i x_j / 2 + sum C_ijk x_i x_j x_k / 6 with normal coefficients, M and C
symmetric. Newton's method from random starts finds critical points, where the gradient is zero; the signs of the
Hessian's eigenvalues say what each is.

Expect: of random cubics 0 % in one dimension, 80 % in two, 95 % in three, all from four on.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline import seeding
from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study
from pipeline.studies.plots import curves

DIMENSIONS = (1, 2, 3, 4, 5, 6, 8, 10)
SURFACES = 60
STARTS = 12
STEPS = 60


def counted(job: Job) -> Figures:
    """Of the critical points that were found: how many are minima, maxima and saddles."""
    size = int(job.settings["dimension"])
    kinds = {"minima": 0, "maxima": 0, "saddles": 0}
    for surface in range(SURFACES):
        draws = seeding.normal(job.params.seed, "surface", surface, np.arange(size), size + size * size + size)
        matrix = draws[:, :size] + draws[:, :size].T
        cubic = draws[:, size : size + size * size].reshape(size, size, size)
        cubic = np.sum([cubic.transpose(order) for order in itertools.permutations(range(3))], axis=0)
        slope = draws[:, -size]
        starts = seeding.normal(job.params.seed, "start", surface, np.arange(STARTS), size)
        found: list[np.ndarray] = []
        for start in starts:
            at = start.copy()
            for _ in range(STEPS):
                gradient = slope + matrix @ at + 0.5 * np.einsum("ijk,j,k->i", cubic, at, at)
                hessian = matrix + np.einsum("ijk,k->ij", cubic, at)
                if np.linalg.norm(gradient) < 1e-9 or abs(np.linalg.det(hessian)) < 1e-12:
                    break
                at = at - np.linalg.solve(hessian, gradient)
            gradient = slope + matrix @ at + 0.5 * np.einsum("ijk,j,k->i", cubic, at, at)
            is_new = all(np.linalg.norm(at - other) > 1e-5 for other in found)
            if np.linalg.norm(gradient) < 1e-8 and is_new:
                found.append(at)
                signs = np.linalg.eigvalsh(matrix + np.einsum("ijk,k->ij", cubic, at)) > 0
                kinds["minima" if signs.all() else "saddles" if signs.any() else "maxima"] += 1
    return kinds


def points(params: Params) -> Sequence[Point]:
    return [Point(f"{size} dimensions", {}, None, counted, {"dimension": size}) for size in DIMENSIONS]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    found = dict(zip(DIMENSIONS, outcomes.values(), strict=True))
    totals = {size: sum(one.figures.values()) for size, one in found.items()}
    share = {size: one.figures["saddles"] / max(1, totals[size]) for size, one in found.items()}
    said = [f"{size}: {100 * share[size]:.0f} %" for size in DIMENSIONS]
    least = min(totals.values())
    verdict = f"Saddles among critical points, by dimension: {', '.join(said)} (of {least} or more found each)."
    rows = [{"dimensions": size, **one.figures, "share_of_saddles": share[size]} for size, one in found.items()]
    series = {"share of saddles": (DIMENSIONS, [100 * share[size] for size in DIMENSIONS])}
    picture = curves("Saddles among critical points", "dimensions", "share, %", series, limits=(-3, 103))
    return Report(verdict, rows, {"share": picture})


STUDY = Study(question="How many critical points are saddles, by dimension?", points=points, report=report, fixed=SMALL)
