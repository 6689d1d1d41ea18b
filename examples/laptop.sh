#!/usr/bin/env bash
# GRPO on a laptop's CPU: the tiny Qwen and its synthetic problems, through the same path as a cluster.
# Usage: examples/laptop.sh [DIRECTORY]
set -euo pipefail
work="${1:-runs/laptop}"

openrlhf-math tiny-world "$work/world"
openrlhf-math sft \
  --model.model_name_or_path "$work/world/model" \
  --data.dataset "$work/world/sft.jsonl" \
  --math.run_dir "$work/sft"
openrlhf-math grpo \
  --actor.model_name_or_path "$work/sft/model" \
  --data.prompt_dataset "$work/world/train.jsonl" \
  --math.instruction "" --math.answer_style think \
  --rollout.max_new_tokens 128 --data.max_len 256 \
  --math.run_dir "$work/grpo"
for model in sft grpo; do
  openrlhf-math eval --model "$work/$model/model" --benchmark "$work/world/heldout.jsonl" --output "$work/eval_$model"
done
