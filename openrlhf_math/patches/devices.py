"""Patch `devices`: ask DeepSpeed's accelerator abstraction where upstream asks CUDA.

`torch.cuda.X()`          becomes `get_accelerator().X()`
`torch.cuda.current_device()` becomes `get_accelerator().current_device_name()` ("cuda:0", "cpu")
`f"cuda:{...}"`           becomes the same
`"cuda"` as a device type becomes `get_accelerator().device_name()`
"""

import ast

from openrlhf_math.patches.patch import Patch, Rewriter

ALIAS = "_openrlhf_math_accelerator"


def _call(method: str) -> ast.Call:
    call = ast.parse(f"{ALIAS}().{method}()", mode="eval").body
    assert isinstance(call, ast.Call)
    return call


def _is_torch_cuda(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "cuda"
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    )


class DeviceRewriter(Rewriter):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        # Last, so that the visits above cannot see it; on the first line, so that no line moves.
        node.body.insert(0, ast.parse(f"from deepspeed.accelerator import get_accelerator as {ALIAS}").body[0])
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant) and first.value == "cuda:":
            return self.replaced(node, _call("current_device_name"))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and _is_torch_cuda(node.func.value):
            if node.func.attr == "current_device":
                return self.replaced(node, _call("current_device_name"))
            call = _call(node.func.attr)
            return self.replaced(node, ast.Call(func=call.func, args=node.args, keywords=node.keywords))
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return self.replaced(node, _call("device_name")) if node.value == "cuda" else node


PATCH = Patch(
    name="devices",
    why="Upstream calls torch.cuda directly, in function bodies too long to override. Without this patch nothing "
    "of it runs on a machine without CUDA; with CUDA the calls mean the same as before.",
    versions=("0.11.2",),
    places={
        "openrlhf.trainer.ppo_utils.replay_buffer": 5,
        "openrlhf.trainer.ray.launcher": 4,
        "openrlhf.trainer.ray.ppo_actor": 11,
        "openrlhf.trainer.ray.ppo_critic": 5,
        "openrlhf.utils.deepspeed.deepspeed": 6,
        "openrlhf.utils.deepspeed.deepspeed_utils": 4,
        "openrlhf.utils.distributed_util": 1,
    },
    rewriter=DeviceRewriter,
)
