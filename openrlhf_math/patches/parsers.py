"""Patch `parsers`: upstream's command-line parsers become functions.

Upstream builds them under `if __name__ == "__main__"`, together with its checks and the call of `train`.
The block becomes two functions: `build_parser()` and `resolve(args)`, which applies upstream's checks to the
nested arguments and returns them.
"""

import argparse
import ast
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeGuard

from openrlhf_math.patches.patch import Patch, PatchError, Rewriter, without_collection


def _is_main_guard(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


class ParserRewriter(Rewriter):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [part for child in node.body for part in self._split(child)]
        return node

    def _split(self, node: ast.stmt) -> list[ast.stmt]:
        if not _is_main_guard(node):
            return [node]
        build: list[ast.stmt] = []
        resolve: list[ast.stmt] = []
        target = build
        for statement in node.body:
            match ast.unparse(statement):
                case "args = parser.parse_args()":
                    target.append(self.replaced(statement, ast.Return(ast.Name("parser", ast.Load()))))
                    target = resolve
                case "train(args)":
                    target.append(self.replaced(statement, ast.Return(ast.Name("args", ast.Load()))))
                case "from openrlhf.utils.config import hierarchize" | "args = hierarchize(args)":
                    # Nesting is `nest`'s, which does not import torch on the way.
                    self.lines.append(statement.lineno)
                case _:
                    target.append(statement)
        functions = ast.parse("def build_parser(): pass\ndef resolve(args): pass").body
        for function, body in zip(functions, (build, resolve), strict=True):
            assert isinstance(function, ast.FunctionDef)
            function.body = body
        return [self.replaced(node, functions[0]), ast.copy_location(functions[1], node)]


PATCH = Patch(
    name="parsers",
    why="Upstream's flags, defaults and checks sit in a main block that only a script run reaches. Without this "
    "patch our commands would have to copy them.",
    versions=("0.11.2",),
    places={"openrlhf.cli.train_ppo_ray": 5, "openrlhf.cli.train_sft": 5},
    rewriter=ParserRewriter,
)


@functools.cache
def load_parser(
    module: str,
) -> tuple[Callable[[], argparse.ArgumentParser], Callable[[SimpleNamespace], SimpleNamespace]]:
    """`build_parser` and `resolve` of an upstream command, without running the rest of its module.

    The rest imports torch, Ray and vLLM, which takes many seconds: too long for `--help` and for telling a
    user that a file is missing. Raises PatchError if upstream is not installed or is another version.
    """
    with without_collection():
        tree, _ = PATCH.apply(module, ast.parse(_source(module).read_text()))
        wanted: list[ast.stmt] = [
            node
            for node in tree.body
            if (isinstance(node, ast.FunctionDef) and node.name in ("build_parser", "resolve"))
            or (
                isinstance(node, (ast.Import, ast.ImportFrom))
                and ast.unparse(node).split()[1] in ("argparse", "datetime", "os")
            )
        ]
        namespace: dict = {}
        exec(compile(ast.Module(body=wanted, type_ignores=[]), str(_source(module)), "exec"), namespace)
    return namespace["build_parser"], namespace["resolve"]


def recipe_parser(
    module: str,
    prog: str,
    description: str,
    defaults: dict[str, object],
    switched_on: tuple[str, ...],
    switches: tuple[str, ...],
) -> argparse.ArgumentParser:
    """An upstream command's parser with other defaults, and no other change of meaning.

    switched_on: upstream's store_true flags whose default becomes True. switches: further ones that get a
    `--no-FLAG` to switch them off.
    """
    parser = load_parser(module)[0]()
    parser.prog, parser.description = prog, description
    parser.formatter_class = FlagHelp
    parser.allow_abbrev = False  # an abbreviated flag would change its meaning with upstream's next flag
    parser.set_defaults(**defaults, **dict.fromkeys(switched_on, True))
    for flag in (*switched_on, *switches):
        parser.add_argument(f"--no-{flag}", dest=flag, action="store_false", help=f"switch --{flag} off")
    return parser


class FlagHelp(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of a flag, unless there is none, its own text says it, or it only switches another flag off."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        switches_off = isinstance(action, argparse._StoreFalseAction)
        if action.default is None or action.default is False or switches_off or "(default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def nest(args: argparse.Namespace) -> SimpleNamespace:
    """Dotted flags as upstream's nested namespace: `args.actor.adam.lr` for `--actor.adam.lr`."""
    spec = importlib.util.spec_from_file_location("openrlhf_config", _source("openrlhf.utils.config"))
    assert spec is not None and spec.loader is not None  # as for every file that ends in .py
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    return config.hierarchize(args)


def _source(module: str) -> Path:
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PatchError(f"{package} is not installed", f"pip install {package}")
    return Path(spec.submodule_search_locations[0]).joinpath(*rest).with_suffix(".py")
