"""The embedded default: synthetic problems, a verbose teacher, a tokenizer and a tiny Qwen, made on the spot."""

from openrlhf_math.data.tiny_world.world import write_products, write_tiny_world

__all__ = ["write_products", "write_tiny_world"]
