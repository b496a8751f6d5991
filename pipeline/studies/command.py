"""`retrace study`: lists the studies, or runs one."""

from collections.abc import Sequence
from typing import Any

from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params import load
from pipeline.params.fields import nearest


def study(name: str | None, settings: Sequence[str], workers: int) -> int:
    """Without a name, list the questions. Raises Mistake for a name that there is not, or a value that does not fit."""
    from pipeline.studies.table import STUDIES

    if name is None:
        if settings:
            raise Mistake("retrace study: -S sets a value of a study; name one (`retrace study` lists them)")
        longest = max(map(len, STUDIES))
        for known, found in STUDIES.items():
            print(f"{known:{longest}}  {found.question}")
        return 0
    if name not in STUDIES:
        raise Mistake(f"retrace study: {name}: unknown study{nearest(name, list(STUDIES))}")
    own = tree_of(settings)
    params = load()
    from pipeline.studies import runner

    report = runner.run(name, STUDIES[name], params, own, workers)
    print(f"\n{STUDIES[name].question}\n{report.verdict}")
    if report.measured is not None:
        print(report.measured.verdict)
    print(f"\nfigures and table: {paths.STUDIES / name}")
    return 0


def tree_of(settings: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, as `dvc exp run -S` takes them, as a tree. Raises Mistake."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    tree: dict[str, Any] = {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not all(path.split(".")):
            raise Mistake(f"-S {setting}: must be KEY=VALUE, such as -S train.epochs=5")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise Mistake(f"-S {setting}: the value is not YAML: {' '.join(str(error).split())}") from None
        node = tree
        *above, last = path.split(".")
        for key in above:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise Mistake(f"-S {setting}: {key} was given a value before; it is a section")
        node[last] = value
    return tree
