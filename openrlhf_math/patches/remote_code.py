"""Patch `remote-code`: code that comes with a model or a dataset runs only if the user asks for it.

`trust_remote_code=True` becomes `trust_remote_code=remote_code_trusted()`, as an argument and as a key of a dictionary.
"""

import ast
import os

from openrlhf_math.patches.patch import Patch, Rewriter

NAME = "trust_remote_code"
ALIAS = "_openrlhf_math_remote_code_trusted"
VARIABLE = "OPENRLHF_MATH_TRUST_REMOTE_CODE"


def remote_code_trusted() -> bool:
    """Whether the user lets models bring their own Python code: the environment variable, 1 or nothing.

    A variable and no flag, since it holds for every command and reaches every process of a run.
    """
    return os.environ.get(VARIABLE) == "1"


def _is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


class RemoteCodeRewriter(Rewriter):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        line = f"from openrlhf_math.patches.remote_code import {remote_code_trusted.__name__} as {ALIAS}"
        node.body.insert(0, ast.parse(line).body[0])  # on the first line, so that no line moves
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        if node.arg == NAME and _is_true(node.value):
            node.value = self._asked(node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        self.generic_visit(node)
        for number, key in enumerate(node.keys):
            if isinstance(key, ast.Constant) and key.value == NAME and _is_true(node.values[number]):
                node.values[number] = self._asked(node.values[number])
        return node

    def _asked(self, old: ast.expr) -> ast.expr:
        return self.replaced(old, ast.parse(f"{ALIAS}()", mode="eval").body)


PATCH = Patch(
    name="remote-code",
    why="Upstream trusts the code of every model and dataset (trust_remote_code=True, written out in function "
    "bodies): a model directory from anywhere would run whatever it likes on every node. With this patch it runs "
    f"only where {VARIABLE}=1 is set.",
    versions=("0.11.2",),
    places={
        "openrlhf.datasets.utils": 1,
        "openrlhf.models.actor": 1,
        "openrlhf.models.model": 2,
        "openrlhf.trainer.ray.vllm_engine": 2,
        "openrlhf.utils.utils": 3,
    },
    rewriter=RemoteCodeRewriter,
)
