"""Models as they are trained: packed rows, attention over them, log-probabilities without logits, and their check.

GRPO, SFT and PRM training use this. Nothing here imports torch before it is needed.
"""

SHARED_PREFIX = "shared_prefix"  # Transformers' name for the attention of shared_prefix_attention.py
