"""Is a result typical of other seeds, or luck? Trains with other seeds on the same inputs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.catalogue import FIGURES
from pipeline import paths

STAGES = ("train", "evaluate")  # what other seeds can be asked of


@dataclass(frozen=True)
class Spread:
    """One figure over several seeds, and where the run's own falls."""

    name: str
    own: float
    others: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.others)

    @property
    def deviation(self) -> float:
        """Standard deviation of the others (n - 1); 0 for one alone."""
        return statistics.stdev(self.others) if len(self.others) > 1 else 0.0

    @property
    def below(self) -> int:
        """How many of the others this run is higher than."""
        return sum(value < self.own for value in self.others)

    def is_typical(self) -> bool:
        """Whether it lies among the others, or no further from their mean than chance takes one more value.

        The width: two standard deviations, times sqrt(1 + 1/n) since the mean is of n values only.
        """
        width = 2.0 * self.deviation * (1.0 + 1.0 / len(self.others)) ** 0.5
        return min(self.others) <= self.own <= max(self.others) or abs(self.own - self.mean) <= width

    def lines(self) -> list[str]:
        """In words."""
        count = len(self.others)
        figures = (
            f"{self.name}: this run {self.own:.6g}; {count} other seeds: mean {self.mean:.6g}, standard deviation"
            f" {self.deviation:.3g}, from {min(self.others):.6g} to {max(self.others):.6g}"
        )
        place = f"higher than {self.below} of {count}"
        if self.is_typical():
            return [figures, f"  {place}: typical of other seeds"]
        side = "higher" if self.own > self.mean else "lower"
        return [figures, f"  {place}: luck: it is {side} than other seeds let expect"]


def ask(
    count: int, clone: Path, stages: Sequence[str], run: Callable[[str], Mapping[str, float]], own: Mapping[str, float]
) -> list[Spread]:
    """Run `stages` for `count` other seeds; how the run's own figures fall among theirs.

    run: runs a stage in the clone and returns its figures. The inputs of the first stage stay as they are.
    """
    file = clone / paths.PARAMS
    before = file.read_bytes()
    found: dict[str, list[float]] = {name: [] for name in own}
    try:
        for seed in _others(before, count):
            paths.write_atomically(file, with_seed(before, seed))
            figures: Mapping[str, float] = {}
            for stage in stages:
                figures = run(stage)
            for name in own:
                found[name].append(figures[name])
    finally:
        paths.write_atomically(file, before)
    return [Spread(name, own[name], tuple(values)) for name, values in found.items()]


def _others(params: bytes, count: int) -> range:
    from ruamel.yaml import YAML

    seed = int(YAML(typ="safe").load(params)["seed"])
    return range(seed + 1, seed + 1 + count)


def with_seed(params: bytes, seed: int) -> bytes:
    """params.yaml with another seed, everything else kept, comments too."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML()
    tree = yaml.load(params)
    tree["seed"] = seed
    out = io.BytesIO()
    yaml.dump(tree, out)
    return out.getvalue()


def figures(metrics: Mapping[str, Mapping[int, float]], stage: str) -> dict[str, float]:
    """What is judged of a run: the last values of its task's figure and loss, on test images after evaluate, else on
    validation images, of the epoch whose weights were kept."""
    before = {"evaluate": "test/", "train": "best/val_"}[stage]
    wanted = [before + name for name in (*dict.fromkeys(figure.name for figure in FIGURES.values()), "loss")]
    return {name: metrics[name][max(metrics[name])] for name in wanted if metrics.get(name)}
