"""Reasoning distillation: a teacher's chains of thought, verified and kept, and a student fine-tuned on them.

Collecting, by `openrlhf-math distill`: `questions` are asked of one of the `teachers` (`endpoint`, `engine`), replies
are in the `journal`, `collect` judges them in rounds, `trace` and `refuse` say what a trace is and which are no good,
`keep` and `choose` have the rules, `dataset` writes the result and its card; `distill`
connects them. The package `sft` fine-tunes on the result.
"""
