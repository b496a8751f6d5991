"""The command `retrace`. Each command's module is imported when the command is run."""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline import paths, stage
from pipeline.errors import ExitStatus, Mistake

Arguments = argparse.Namespace


@dataclass(frozen=True)
class Command:
    """What `retrace NAME` does."""

    help: str
    run: Callable[[Arguments], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def _check(arguments: Arguments) -> int:
    from pipeline.commands.check import check

    return check()


def _doctor(arguments: Arguments) -> int:
    from pipeline.commands.doctor import doctor

    return doctor()


def _summary(arguments: Arguments) -> int:
    from pipeline.commands.summary import summary

    return summary()


def _ui(arguments: Arguments) -> int:
    from pipeline.commands.ui import ui

    return ui(arguments.port)


def _sync(arguments: Arguments) -> int:
    from pipeline import params, tracking
    from pipeline.lineage import reuse

    chosen = params.load()
    result = tracking.sync(chosen, arguments.folder)
    for reason in result.reasons:
        print(reason, file=sys.stderr)
    print(f"{len(result.sent)} runs sent, {len(result.left)} left, {len(result.refused)} refused")
    if result.elsewhere:
        print(f"{len(result.elsewhere)} more were sent before, to another MLflow: what they kept is there")
    reuse.look()
    if reuse.waiting() and not result.reasons:
        from pipeline.commands import text

        text.opened(chosen)
    return ExitStatus.NEGATIVE_VERDICT if result.left or result.refused else ExitStatus.SUCCESS


def _log(arguments: Arguments) -> int:
    from pipeline.commands.log import log

    return log(arguments.what)


def _history(arguments: Arguments) -> int:
    from pipeline.commands.history import history

    return history(arguments.limit, arguments.stage)


def _trace(arguments: Arguments) -> int:
    from pipeline.commands.trace import trace

    return trace(arguments.what)


def _gc(arguments: Arguments) -> int:
    from pipeline.commands.garbage import collect

    return collect(is_dry_run=arguments.dry_run, everything=arguments.all)


def _gradcheck(arguments: Arguments) -> int:
    from pipeline.commands.gradcheck import gradcheck

    return gradcheck(arguments.network, arguments.loss, verbose=arguments.verbose)


def _schema(arguments: Arguments) -> int:
    from pipeline import params

    sys.stdout.write(params.json_schema())
    return 0


def _reproduce(arguments: Arguments) -> int:
    from pipeline.reproduce.command import reproduce
    from pipeline.reproduce.steps import Options

    words = vars(arguments)
    return reproduce(Options(**{name: words[name] for name in Options.__dataclass_fields__}))


def _study(arguments: Arguments) -> int:
    from pipeline.studies.command import study

    return study(arguments.name, arguments.settings, arguments.workers)


def _port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port_number, default=5000, help="on 127.0.0.1 (default: 5000)")


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", type=_absolute,
        help="runs brought from elsewhere: a project's folder, its .retrace/runs, or one run's (default: those here)",
    )  # fmt: skip


def _one_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="STAGE|PATH", type=_path, help="of these outputs (default: of all)")


def _last_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_count, default=20, help="how many at most (default: 20)")
    stages = ("source", "prepare", "augment", "search", "trial", "train", "evaluate", "study")
    parser.add_argument(
        "--stage", choices=stages, help="of this stage alone; `trial` shows those of searches and studies"
    )


def _number(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="FILE|RUN|METRIC", type=_path,
        help="an output or a file in one; a run's id, name or key; a metric, such as test/accuracy",
    )  # fmt: skip


def _what_goes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only show what would be freed")
    parser.add_argument(
        "--all", action="store_true",
        help="also what each stage would go on with, hashes of other sources, weights kept before a divergence",
    )  # fmt: skip


def _what_is_checked(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check the gradients of every network, loss and penalty of the catalogue, small and in float64, against central"
        " differences, and show what each way costs. Exit status: 0 all agree to 1e-6; 1 some do not; 2 a mistake."
    )
    parser.add_argument("--network", metavar="NAME", help="this network alone")
    parser.add_argument("--loss", metavar="NAME", help="this loss alone; with --network: that network under it")
    parser.add_argument("--verbose", action="store_true", help="every tensor, and a kink of each function")


def _path(text: str) -> str:
    """A file that is there, seen from where the command was given, as an absolute path; anything else as it is."""
    return str(Path(text).absolute()) if Path(text).exists() else text


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a number from 1 on")
    return int(text)


def _reproduction(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a run again in a scratch folder (.retrace/reproduce/RUN_ID) and compare every output and every metric."
        " This runs the code that was recorded: reproduce what you would run. Exit status: 0 bit-identical, or within"
        " the tolerance; 1 differs; 2 a mistake; 3 cannot be compared here."
    )
    parser.add_argument("run_id", metavar="RUN_ID", help="of any stage's run, as MLflow shows it")
    parser.add_argument(
        "--here", action="store_true",
        help="use the present environment (default: install the recorded versions into one of its own)",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", metavar="X", type=_tolerance,
        help="let differences pass up to X: |a - b| / max(1, |a|), with a the recorded value",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="STAGE",
        help="run this stage alone, on its inputs as they were recorded (default: all from the raw data on)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", metavar="N", type=_count, default=0,
        help="also train with N other seeds: is the result typical, or luck?",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder")


def _experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one (default: list them with their questions)")
    parser.add_argument(
        "-S", dest="settings", metavar="KEY=VALUE", action="append", default=[],
        help="a value of params.yaml for this study, such as train.epochs=5 or data.source=cifar10; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N", type=_count, default=1,
        help="work on N points side by side, each in its process (default: 1); changes no result",
    )  # fmt: skip


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance; give a number from 0 on, such as 1e-4")
    return value


def _absolute(text: str) -> Path:
    return Path(text).absolute()  # now: commands run in the project's folder


def _port_number(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 1 to 65535")
    return int(text)


COMMANDS = {
    "check": Command("validate params.yaml, dvc.yaml and data.path; estimate what a run will take", _check),
    "doctor": Command("say what of this machine will be used, and what is wrong with it", _doctor),
    "summary": Command("print the results of the last run", _summary),
    "ui": Command("open MLflow's UI on 127.0.0.1", _ui, _port),
    "sync": Command("send what MLflow has not taken yet", _sync, _folder),
    "log": Command("say which run made each output that is here", _log, _one_output),
    "history": Command("list the last runs", _history, _last_runs),
    "trace": Command("follow a number back to the raw data and the code", _trace, _number),
    "gc": Command("remove what nobody needs any more from .retrace", _gc, _what_goes),
    "reproduce": Command("make a run again and say whether the same came out", _reproduce, _reproduction),
    "gradcheck": Command("check every gradient against differences of values", _gradcheck, _what_is_checked),
    "study": Command("answer one of the usual questions by an experiment; alone: list them", _study, _experiment),
    "schema": Command("print the JSON schema by which editors complete params.yaml", _schema),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Mistake(f"{self.prog}: {message}", f"see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The command line of `retrace`."""
    main_parser = _Parser(
        prog="retrace", description="Image-classifier experiments in which every number can be traced back."
    )
    main_parser.add_argument("--version", action="version", version=f"retrace {_version()}")
    commands = main_parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.help, description=command.help))
    return main_parser


def _version() -> str:
    try:
        return importlib.metadata.version("retrace")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: `make install` does it)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command from anywhere inside the project; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return stage.guarded(lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in COMMANDS:
        from pipeline.params.fields import nearest

        raise Mistake(f"retrace: {first}: unknown command{nearest(first, list(COMMANDS))}")
    arguments, unknown = parser().parse_known_args(words)
    if unknown:  # argparse itself would point to the help of all commands
        command = f"retrace {arguments.command}"
        raise Mistake(f"{command}: unknown: {' '.join(unknown)}", f"see `{command} --help`")
    folder = paths.find_project(Path.cwd())
    if folder is None:
        raise Mistake(
            f"{Path.cwd()}: not inside a retrace project (no dvc.yaml and params.yaml here or above); cd to one"
        )
    os.chdir(folder)
    try:
        status = COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `retrace history | head`: who reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.SUCCESS
    return status


if __name__ == "__main__":
    sys.exit(main())
