"""`retrace gradcheck`: backpropagated gradients of everything in the catalogue against central differences."""

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from models import catalogue
from pipeline.errors import ExitStatus, Mistake
from pipeline.params.fields import nearest

if TYPE_CHECKING:
    from rich.table import Table

    from models.gradients.check import Check, Function
    from models.gradients.kinks import Corner

_WIDTH = 100  # columns, whatever the terminal: a table that is piped is read, too


def gradcheck(network: str | None, loss: str | None, *, verbose: bool) -> int:
    """Check all networks, losses and penalties; or one network, one loss, or the one under the other.

    Prints the errors, what each way costs, and the kinks. Raises Mistake for an unknown name. Returns the exit status.
    """
    from rich.console import Console

    from models.gradients import check, kinks

    _require_known(network, loss)
    functions = list(_chosen(network, loss))
    console = Console(file=sys.stdout, highlight=False, width=_WIDTH)
    checks = []
    for function in functions:
        if sys.stderr.isatty():
            print(f"\r{function.name}\033[K", end="", file=sys.stderr)
        checks.append(check.check(function))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    console.print(_errors(checks))
    console.print()
    if verbose:
        for done in checks:
            console.print(_tensors(done))
            console.print()
    console.print(_costs(checks))
    walked = ((function.name, kinks.corner(function)) for function in functions)
    shown = list(walked) if verbose else list(itertools.islice((pair for pair in walked if pair[1]), 1))
    print()
    print("\n".join(_about_kinks(checks, shown)))
    print()
    for name, entry in catalogue.NETWORKS.items():
        if entry.memorises and network is None and loss is None:
            print(f"{name}: memorises the training images; it has no gradient to check")
    problems = [f"{done.name}: {problem}" for done in checks for problem in done.problems]
    for problem in problems:
        print(problem)
    tensors = sum(len(done.tensors) for done in checks)
    wrong = sum(len(done.problems) for done in checks)
    if wrong:
        print(f"{wrong} of {tensors} gradients are wrong, or cannot be judged")
        return ExitStatus.NEGATIVE_VERDICT
    print(f"all {tensors} gradients agree to {check.TOLERANCE:.0e}")
    return ExitStatus.SUCCESS


def _require_known(network: str | None, loss: str | None) -> None:
    """Raise Mistake for what the catalogue does not have, or has no gradient."""
    for option, name, table in (("--network", network, catalogue.NETWORKS), ("--loss", loss, catalogue.LOSSES)):
        if name is not None and name not in table:
            raise Mistake(f"retrace gradcheck: {option} {name}: not in the catalogue{nearest(name, list(table))}")
    if network is not None and catalogue.NETWORKS[network].memorises:
        raise Mistake(f"retrace gradcheck: --network {network}: memorises the training images and has no gradient")


def _chosen(network: str | None, loss: str | None) -> "Iterator[Function]":
    from models.gradients import entries

    if network is not None:
        yield from entries.networks(network, loss or "softmax")
        return
    if loss is not None:
        yield from entries.losses(loss)
        return
    for name, entry in catalogue.NETWORKS.items():
        if not entry.memorises:
            yield from entries.networks(name)
    for name in catalogue.LOSSES:
        yield from entries.losses(name)
    yield from entries.penalties()


def _table(title: str, *columns: str) -> "Table":
    """A table whose first column is text and whose others are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _errors(checks: "list[Check]") -> "Table":
    title = "Relative error |a - n| / (|a| + |n|) of the gradients a against central differences n"
    table = _table(title, "function", "P", "checked", "kinks", "left out", "largest error", "of tensor", "verdict")
    for done in checks:
        table.add_row(
            done.name,
            f"{done.cost.parameters:,}",
            str(sum(tensor.checked for tensor in done.tensors)),
            str(sum(tensor.kinks for tensor in done.tensors)),
            str(sum(tensor.left_out for tensor in done.tensors)),
            f"{done.worst.error:.1e}",
            done.worst.name,
            "WRONG" if done.problems else "ok",
        )
    return table


def _tensors(done: "Check") -> "Table":
    table = _table(done.name, "tensor", "shape", "checked", "kinks", "left out", "error", "forward mode's", "verdict")
    for tensor in done.tensors:
        table.add_row(
            tensor.name,
            " x ".join(map(str, tensor.shape)) or "one",
            str(tensor.checked),
            str(tensor.kinks),
            str(tensor.left_out),
            "both zero" if tensor.is_zero else f"{tensor.error:.1e}",
            "both zero" if tensor.is_zero else f"{tensor.forward_error:.1e}",
            "WRONG" if tensor.problem else "ok",
        )
    return table


def _costs(checks: "list[Check]") -> "Table":
    title = "What the gradient by all P numbers costs: evaluations, and processor time on one thread"
    table = _table(title, "function", "one value", "central: 2P", "forward mode: P", "reverse mode")
    for done in checks:
        cost = done.cost
        table.add_row(
            done.name,
            _seconds(cost.evaluation_seconds),
            f"{2 * cost.parameters:,} in {_seconds(cost.numerical_seconds)}",
            f"{cost.parameters:,} in {_seconds(cost.forward_seconds)}",
            f"{cost.reverse_evaluations:.1f} in {_seconds(cost.reverse_seconds)}",
        )
    return table


def _seconds(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{seconds * 1e3:.3g} ms"
        if seconds >= 1e-3
        else f"{seconds * 1e6:.0f} µs"
    )


def _about_kinks(checks: "list[Check]", corners: "list[tuple[str, Corner | None]]") -> Iterator[str]:
    """What kinks are, how many were met, and one of each sort."""
    met = [(done, tensor, tensor.kink) for done in checks for tensor in done.tensors if tensor.kink is not None]
    checked = sum(tensor.checked for done in checks for tensor in done.tensors)
    yield "Kinks: the corners of ReLU, max pooling, hinges, absolute values. The slope jumps there, and a"
    yield "difference across one gives a mean of both sides. There a sixteenth of the step is tried, and a"
    yield "64th; what has its kink within these, too, is left out of the error:"
    kinks, left_out = sum(tensor.kinks for _, tensor, _ in met), sum(tensor.left_out for _, tensor, _ in met)
    yield f"  {kinks} of {checked} coordinates have a kink within their step; {left_out} are left out"
    if met:
        done, tensor, kink = max(met, key=lambda found: abs(found[2].right - found[2].left))
        yield f"  such as {done.name}, {tensor.name}, number {kink.index}: slope {kink.left:.6g} on the left,"
        yield f"    {kink.right:.6g} on the right; the gradient says {kink.gradient:.6g}"
    for name, corner in corners:
        if corner is None:
            yield f"  {name}: none on the line that was walked along"
        else:
            yield f"  {name}: walking along a line, the slope jumps from {corner.left:.6g} to {corner.right:.6g};"
            yield (
                f"    a central difference there says {corner.central:.6g}"
                f" ({'seen to be a kink' if corner.is_found else 'too small a jump to harm the check'})"
            )
