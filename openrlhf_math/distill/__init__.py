"""Reasoning distillation: a teacher's chains of thought, verified and kept, and a student fine-tuned on them.

Collecting, by `openrlhf-math distill`: `questions` are asked of one of the `teachers` (an endpoint, or `engine`),
`collect` judges the replies in rounds, `keep` has the rules that keep traces, `yields` counts them, `dataset` writes
the result and its card; `distill` connects them. The package `sft` fine-tunes on the result.
"""
