"""The command line: `attngraph check | explain | fmt | latex | simplify | equiv | compile | draw`.

This file reads the arguments and guards the run; what each command does is in `commands.py`. Exit codes: 0 all
well, 1 findings (errors of formulas, files that `fmt --check` would change), 2 misuse or a bug in attngraph.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

from .console import Console, Misuse
from .settings import FORMAT_NAMES, SettingsError, suggest

FINE, FINDINGS, UNUSABLE = 0, 1, 2
# What a shell reports for a process that these signals end.
INTERRUPTED, PIPE_CLOSED = 130, 141
COMMANDS = {
    "check": "types, axes, sizes, cost and claims of formulas",
    "explain": "everything the compiler knows about a formula, or what a diagnostic code means",
    "fmt": "canonical layout",
    "latex": "a formula as a paper would print it",
    "simplify": "a formula without what cancels, cannot act, or has a shorter name",
    "equiv": "whether two formulas compute the same",
    "compile": "the generated module, as source, TorchScript, an exported program, machine code or ONNX",
    "draw": "the graph of a formula as a picture, or as data",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_ISSUES = "please report it with the formula and the output of the same command under ATTNGRAPH_DEBUG=1"


class _Parser(argparse.ArgumentParser):
    """Argument errors are one line with the reason and the fix, like every other misuse."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message} (`{self.prog} -h` shows examples)")

    def options(self) -> list[str]:
        """The long options that this parser takes."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of the program, and those of its commands."""
    parser = _Parser(
        prog="attngraph",
        description="The language and compiler for attention formulas.",
        epilog="examples:\n"
        "  attngraph check examples                 check every formula of a folder\n"
        "  attngraph explain linear.attn            cost, plan and claims of a formula\n"
        "  attngraph explain AG201                  what a diagnostic code means\n"
        "  attngraph compile linear.attn -o out.py  write the generated module\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    adder = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    commands: dict[str, _Parser] = {}

    def command(name: str, *examples: str) -> _Parser:
        lines = "\n".join(f"  attngraph {name} {example}" for example in examples)
        commands[name] = adder.add_parser(
            name,
            help=COMMANDS[name],
            description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
            epilog=f"examples:\n{lines}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        return commands[name]

    one = "a formula file, or - for standard input"
    many = "formula files, folders that are searched for *.attn, or - for standard input"

    check = command(
        "check", "examples", "linear.attn --require linear,causal", "examples --format sarif --output report.sarif"
    )
    check.add_argument("paths", nargs="+", metavar="FILE|FOLDER", help=many)
    check.add_argument(
        "--require", action="append", metavar="CLAIM", help="a claim that every formula must keep, as `linear`"
    )
    check.add_argument("--format", choices=FORMAT_NAMES, help="how to report (default: full)")
    check.add_argument("--output", metavar="FILE", help="write the report to a file")
    check.add_argument("--ignore", action="append", metavar="CODE", help="a warning that is not wanted")
    check.add_argument(
        "--warnings-as-errors", action=argparse.BooleanOptionalAction, default=None, help="warnings fail the check"
    )

    explain = command("explain", "linear.attn", "kernels.attn linear_attention --format markdown", "AG201")
    explain.add_argument("subject", metavar="FILE|CODE", help=f"{one}; or a diagnostic code")
    explain.add_argument("name", nargs="?", metavar="NAME", help="a formula of the file (default: all)")
    explain.add_argument(
        "--format", choices=("text", "markdown"), default="text", help="how to write it (default: text)"
    )

    fmt = command("fmt", "examples", "--check examples", "--diff linear.attn", "- < linear.attn")
    fmt.add_argument("paths", nargs="+", metavar="FILE|FOLDER", help=many)
    fmt.add_argument("--check", action="store_true", help="change nothing; say which files would change")
    fmt.add_argument("--diff", action="store_true", help="change nothing; show what would change")
    fmt.add_argument("--stdout", action="store_true", help="change nothing; print the formatted text")

    latex = command("latex", "linear.attn", "kernels.attn linear_attention", "linear.attn --mathml")
    latex.add_argument("file", metavar="FILE", help=one)
    latex.add_argument("name", nargs="?", metavar="NAME", help="a formula of the file (default: all)")
    latex.add_argument("--mathml", action="store_true", help="MathML for a web page in the place of LaTeX")

    simplify = command("simplify", "attention.attn", "attention.attn --explain", "trial.attn --guards --const eps=0")
    simplify.add_argument("file", metavar="FILE", help=one)
    simplify.add_argument("name", nargs="?", metavar="NAME", help="a formula of the file (default: all)")
    simplify.add_argument("--explain", action="store_true", help="every step: rule, place, before, after, why")
    simplify.add_argument(
        "--guards", action="store_true", help="also where an epsilon, a clamp, infinity or NaN makes a difference"
    )
    simplify.add_argument("--const", action="append", default=[], metavar="NAME=VALUE", help="a constant that is fixed")

    equiv = command("equiv", "mine.attn paper.attn", "kernels.attn:linear_attention linear.attn")
    for which in ("left", "right"):
        equiv.add_argument(which, metavar="FILE[:NAME]", help="a formula file, and which of its formulas")
    equiv.add_argument("--guards", action="store_true", help="only where no epsilon acts and all values are numbers")

    build = command("compile", "linear.attn", "linear.attn -o linear.py", "swin.attn -o swin.onnx --const W=7")
    build.add_argument("file", metavar="FILE", help=one)
    build.add_argument("name", nargs="?", metavar="NAME", help="the formula, if the file has several")
    build.add_argument(
        "-o",
        dest="output",
        metavar="OUT",
        help="out.py (source), out.pt (TorchScript), "
        "out.pt2 (exported program; machine code by --target aoti), out.onnx",
    )
    build.add_argument("--form", default="auto", metavar="FORM", help="auto, dense, linear, chunked or recurrent")
    build.add_argument("--target", metavar="TARGET", help="where the suffix leaves a choice: export or aoti")
    build.add_argument("--batch", metavar="K", help="batch dimensions of inputs of a .pt2 or .onnx file (default: 1)")
    build.add_argument("--size", action="append", default=[], metavar="AXIS=N", help="the size of an axis")
    build.add_argument("--const", action="append", default=[], metavar="NAME=VALUE", help="the value of a constant")

    draw = command("draw", "linear.attn -o linear.svg", "kernels.attn linear_attention -o graph.dot --stage written")
    draw.add_argument("file", metavar="FILE", help=one)
    draw.add_argument("name", nargs="?", metavar="NAME", help="the formula, if the file has several")
    draw.add_argument("-o", dest="output", metavar="OUT", required=True, help="out.svg, out.dot or out.json")
    draw.add_argument(
        "--stage", choices=("written", "compiled"), default="compiled", help="which graph (default: compiled)"
    )
    return parser, commands


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with suggestions for a misspelt command or option. Errors: Misuse."""
    parser, commands = _parsers()
    first = next((word for word in argv if not word.startswith("-")), None)
    if first is not None and first not in COMMANDS:
        raise Misuse(f"there is no command `{first}`; {suggest(first, COMMANDS)}")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        chosen = commands.get(arguments.command, parser)
        word = unknown[0].partition("=")[0]
        advice = f"; {suggest(word, chosen.options())}" if word.startswith("-") else ""
        raise Misuse(f"`{chosen.prog}` does not take `{unknown[0]}`{advice}")
    if arguments.command is None and not arguments.version:
        raise Misuse(f"what should be done? {suggest('', COMMANDS)} (`attngraph -h` shows examples)")
    return arguments


def _run(argv: Sequence[str], console: Console) -> int:
    try:
        arguments = _arguments(argv)
        if arguments.version:
            from .report import version

            console.write(f"attngraph {version()}\n")
            return FINE
        from . import commands

        return commands.run(arguments, console)
    except (Misuse, SettingsError) as error:
        from .snippet import one_line

        console.note("attngraph: " + "\n".join(map(one_line, str(error).split("\n"))))
        return UNUSABLE
    except SystemExit as done:  # argparse has printed its help
        return UNUSABLE if done.code else FINE


class _BugReport:
    """Turns an exception that nobody expected into a message that can be acted on, and exit code 2."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.code = UNUSABLE

    def __enter__(self) -> _BugReport:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None:
            return True
        if not isinstance(error, Exception) or isinstance(error, BrokenPipeError):
            return False
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            self._console.note(f"attngraph: the output cannot be written: {error.strerror}")
            return True
        if os.environ.get("ATTNGRAPH_DEBUG"):
            import traceback

            self._console.note("".join(traceback.format_exception(error)).rstrip())
        from .snippet import one_line

        what = f"{type(error).__name__}: {one_line(str(error))[:500]}"
        self._console.note(f"attngraph: this is a bug in attngraph: {what}")
        self._console.note(f"  it happened while {one_line(self._console.stage)}")
        for note in getattr(error, "__notes__", ()):
            self._console.note(f"  {note}")
        self._console.note(f"  {_ISSUES}")
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argv: the arguments without the program's name."""
    console = Console()
    try:
        with _BugReport(console) as guard:
            try:
                guard.code = _run(sys.argv[1:] if argv is None else argv, console)
                console.out.flush()
            except KeyboardInterrupt:
                guard.code = INTERRUPTED
        if guard.code == UNUSABLE:
            _let_go()
    except BrokenPipeError:
        _let_go()
        return PIPE_CLOSED
    return guard.code


def _let_go() -> None:
    """Forget output that cannot be written, as to a reader (`| head`) that is gone: Python would complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
