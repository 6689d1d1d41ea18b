"""Reasoning distillation: a teacher's chains of thought, verified and kept, and a student fine-tuned on them.

Collecting, by `openrlhf-math distill`: `questions` are asked of one of the `teachers` (`endpoint`, `engine`), replies
stand in the `journal`, `collect` judges them, `keep` has the rules, `dataset` and `card` are what comes out; `distil`
holds it together. Fine-tuning, by `openrlhf-math sft`: `sft`, `sft_settings`, `sft_trainer`.
"""
