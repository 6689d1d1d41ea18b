"""Reasoning distillation: a teacher's chains of thought, verified and kept, and a student fine-tuned on them.

Collecting, by `openrlhf-math distill`: `questions` are asked of one of the `teachers` (`endpoint`, `engine`), replies
are in the `journal`, `collect` judges them in rounds, `trace` and `refuse` say what a trace is and which are no good,
`keep` and `choose` have the rules, `dataset` and `card` are what comes out; `distill`
holds it together. Fine-tuning, by `openrlhf-math sft`: `sft`, `sft_settings`, `sft_trainer`.
"""
