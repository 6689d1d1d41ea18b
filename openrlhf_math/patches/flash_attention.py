"""Patch `flash-attention`: let upstream's ring attention module be imported without flash-attn.

flash-attn must not be faked as a whole: upstream relies on the ImportError of its cross-entropy kernel to
fall back to plain PyTorch.
"""

import ast
from typing import NoReturn

from openrlhf_math.patches.patch import Patch, Rewriter


class OptionalImportRewriter(Rewriter):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if not (node.module or "").startswith("flash_attn."):
            return node
        guarded = ast.parse("try:\n    pass\nexcept ImportError:\n    pass").body[0]
        assert isinstance(guarded, ast.Try)
        guarded.body = [node]
        guarded.handlers[0].body = [
            ast.parse(f"from openrlhf_math.patches.flash_attention import needs_flash_attention as {alias.name}").body[
                0
            ]
            for alias in node.names
        ]
        return self.replaced(node, guarded)


def needs_flash_attention(*args: object, **kwargs: object) -> NoReturn:
    """Stands in for a flash-attn function where flash-attn is not installed."""
    raise ImportError(
        "--ds.packing_samples and --ds.ring_attn_size need flash-attn, which is not installed: make flash-attn on a "
        "machine with NVIDIA devices, or leave these flags out"
    )


PATCH = Patch(
    name="flash-attention",
    why="models/ring_attn_utils.py imports flash-attn at module level, and every model module imports it. Without "
    "this patch nothing of upstream can be imported where flash-attn has no build (CPU). Its functions still raise "
    "when they are called without flash-attn.",
    versions=("0.11.2",),
    places={"openrlhf.models.ring_attn_utils": 2},
    rewriter=OptionalImportRewriter,
)
