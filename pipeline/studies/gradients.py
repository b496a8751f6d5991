"""Numerical against backpropagated gradients: cost by the number of parameters, and error of differences by their step.

    retrace study gradients

Expect: forward differences are best with a step of 1e-7, relative error 4e-8; central ones with 3e-5, error 8e-11. Of
1.1 million parameters backpropagation takes as long as 3.4 evaluations (0.013 s), central differences would take 3
hours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import Params
from pipeline.studies.base import SMALL, Figures, Job, Outcome, Point, Report, Study
from pipeline.studies.plots import curves


def costed(job: Job) -> Figures:
    """Evaluations by the number of parameters; the seconds are measured."""
    from models.gradients.costs import cost_by_size

    found = cost_by_size()
    for row in found:
        for way in ("evaluation", "numerical", "forward", "reverse"):
            job.measured[f"{way}:{row.parameters}"] = getattr(row, f"{way}_seconds")
    return {"sizes": [[row.parameters, row.numerical_evaluations, row.forward_evaluations] for row in found]}


def stepped(job: Job) -> Figures:
    """The error of forward and central differences by their step."""
    from models.gradients.costs import error_by_step

    return {"errors": [list(row) for row in error_by_step()]}


def points(params: Params) -> Sequence[Point]:
    return [Point("cost by size", data=None, work=costed), Point("error by step", data=None, work=stepped)]


def report(params: Params, outcomes: Mapping[str, Outcome]) -> Report:
    errors = outcomes["error by step"].figures["errors"]
    least = {name: min(errors, key=lambda row: row[place]) for place, name in ((1, "forward"), (2, "central"))}
    verdict = (
        f"Forward differences are best with a step of {least['forward'][0]:.1g}, relative error"
        f" {least['forward'][1]:.1g}; central ones with {least['central'][0]:.1g}, error {least['central'][2]:.1g}:"
        " larger steps err by the curve, smaller ones by rounding. Central differences of P parameters take"
        " 2P values, forward mode P passes, reverse mode one there and back."
    )
    rows = [{"step": step, "forward_error": forward, "central_error": central} for step, forward, central in errors]
    series = {
        name: ([row[0] for row in errors], [row[place] for row in errors])
        for place, name in ((1, "forward difference"), (2, "central difference"))
    }
    picture = curves("Finite differences in float64", "step h", "relative error of the gradient", series, log="xy")
    return Report(verdict, rows, {"error_by_step": picture}, measured(outcomes["cost by size"]))


def measured(outcome: Outcome) -> Report:
    """Seconds, which are this machine's."""
    seconds = outcome.measured
    rows: list[dict[str, Any]] = [
        {
            "parameters": parameters,
            **{f"{way}_seconds": seconds[f"{way}:{parameters}"] for way in ("numerical", "forward", "reverse")},
            "reverse_in_evaluations": seconds[f"reverse:{parameters}"] / seconds[f"evaluation:{parameters}"],
        }
        for parameters, _, _ in outcome.figures["sizes"]
    ]
    largest = rows[-1]
    verdict = (
        f"Of {largest['parameters']:,} parameters: backpropagation {largest['reverse_seconds']:.2g} s, as long as"
        f" {largest['reverse_in_evaluations']:.1f} evaluations; differences {largest['numerical_seconds']:.2g} s,"
        f" forward mode {largest['forward_seconds']:.2g} s (both from a part of the parameters)."
    )
    sizes = [row["parameters"] for row in rows]
    names = {"numerical": "central differences", "forward": "forward mode", "reverse": "backpropagation"}
    series = {name: (sizes, [row[f"{way}_seconds"] for row in rows]) for way, name in names.items()}
    picture = curves("Cost of one gradient", "parameters", "seconds", series, log="xy")
    return Report(verdict, rows, {"cost_by_size": picture})


STUDY = Study(
    question="Numerical or backpropagated gradients: what do they cost, and how exact are differences?",
    points=points,
    report=report,
    fixed=SMALL,
    is_timing=True,
)
