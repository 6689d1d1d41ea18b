"""What a run's actors ask for rewards later: Python files, which are checked without running them, and servers."""

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

from openrlhf_math.errors import UserError

AGENT, REWARD = "AgentExecutor", "reward_func"  # what OpenRLHF looks for in them
CONNECT_SECONDS = 10


def check_plugin_files(args: SimpleNamespace) -> None:
    """Raise UserError for an agent or reward file that is missing, does not parse, or lacks what OpenRLHF looks for.

    For a reward server that does not listen, too.
    """
    if args.train.agent_func_path:
        _check("--train.agent_func_path", args.train.agent_func_path, AGENT)
        return  # the agent gives the reward
    for url in args.reward.remote_url or []:
        if url.endswith(".py"):
            _check("--reward.remote_url", url, REWARD)
        elif not url.startswith(("http://", "https://")):
            raise UserError(f"--reward.remote_url {url}: give a Python file, or an address that begins with http://")
        else:
            _check_listens(url)


def _check_listens(url: str) -> None:
    """Nothing is sent: what a server makes of a request without completions is not known."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--reward.remote_url {url}: cannot connect ({reason}); start the server first") from None


def _check(flag: str, path: str, name: str) -> None:
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"{flag} {path}: the file cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{flag} {path}: it is not valid Python ({error})") from None
    if not path.endswith(".py"):
        raise UserError(f"{flag} {path}: OpenRLHF loads only files that end in .py; rename it")
    if not {name, "*"} & set(_names(tree)):
        raise UserError(f"{flag} {path}: it defines no {name}, which OpenRLHF looks for in it")


def _names(tree: ast.Module) -> Iterator[str]:
    """What the file may define at its top level, also under a condition or by import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name for each in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
