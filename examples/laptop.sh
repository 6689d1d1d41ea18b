#!/usr/bin/env bash
# GRPO on a laptop's CPU: the tiny Qwen and its synthetic problems, through the same path as a cluster.
# It is `openrlhf-math demo`, command by command.
# Usage: examples/laptop.sh [DIRECTORY]
set -euo pipefail
work="${1:-runs/laptop}"

openrlhf-math tiny-world "$work/world"
openrlhf-math curate --source "tiny=$work/world/raw.jsonl" --benchmark "heldout=$work/world/heldout.jsonl" \
  --output "$work/problems" --workers 0

# A teacher behind an OpenAI-compatible endpoint: here a program, elsewhere DeepSeek-R1 (examples/distill_r1.sh).
coproc teacher { exec openrlhf-math tiny-teacher; }
trap 'kill "$teacher_PID" 2>/dev/null || true' EXIT
read -r address <&"${teacher[0]}"
openrlhf-math distill --problems "$work/problems" --output "$work/traces" \
  --base-url "$address" --model tiny-teacher --attempts 1 --max-tokens 400 --keep verified
kill "$teacher_PID"

openrlhf-math sft \
  --model.model_name_or_path "$work/world/model" \
  --data.dataset "$work/traces/dataset" \
  --math.instruction "" --data.max_len 256 \
  --train.batch_size 16 --train.micro_batch_size 16 --train.max_epochs 2 --adam.lr 3e-3 \
  --math.run_dir "$work/sft"
openrlhf-math grpo \
  --actor.model_name_or_path "$work/sft/model" \
  --data.prompt_dataset "$work/world/train.jsonl" --data.max_samples 960 \
  --math.instruction "" --math.answer_style think \
  --rollout.batch_size 16 --rollout.n_samples_per_prompt 8 \
  --rollout.max_new_tokens 128 --data.max_len 256 \
  --actor.adam.lr 2e-4 --actor.lr_scheduler constant_with_warmup --actor.entropy_coef 0 \
  --math.run_dir "$work/grpo"
for model in sft grpo; do
  openrlhf-math eval \
    --model "$work/$model/model" --benchmark "$work/world/heldout.jsonl" --output "$work/eval_$model" \
    --instruction "" --style think --samples 4 --temperature 1.0 --max-tokens 128
done

# A process reward model learns from the trained model's attempts, and several attempts are put to the vote.
openrlhf-math eval \
  --model "$work/grpo/model" --benchmark "$work/world/train.jsonl" --max-problems 500 --output "$work/prm/attempts" \
  --instruction "" --style think --samples 8 --temperature 1.0 --max-tokens 128
openrlhf-math prm label --source tiny-world --separator '\n' --heldout 0.1 \
  --output "$work/prm/labels" "$work/prm/attempts/completions.jsonl"
openrlhf-math prm train \
  --model.model_name_or_path "$work/grpo/model" --data.max_len 320 \
  --data.dataset "$work/prm/labels/train.parquet" --eval.dataset "$work/prm/labels/heldout.parquet" \
  --train.batch_size 16 --train.micro_batch_size 16 --train.max_epochs 1 --adam.lr 2e-3 \
  --math.run_dir "$work/prm/run"
openrlhf-math solve \
  --model "$work/grpo/model" --scorer qwen2.5-math-prm --scorer-model "$work/prm/run/model" --separator '\n' \
  --problems "$work/world/heldout.jsonl" --attempts 8 --no-early-stop --problem-concurrency 16 \
  --instruction "" --style think --temperature 1.0 --max-tokens 128 --max-context 256 \
  --output "$work/attempts.jsonl"
openrlhf-math vote "$work/attempts.jsonl" --style think --plot "$work/accuracy.png"
