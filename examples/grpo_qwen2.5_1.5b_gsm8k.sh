#!/usr/bin/env bash
# Qwen2.5-1.5B on GSM8K, one node with 8 GPUs, training and inference on the same ones. A training process takes
# 16,384 tokens at once: groups of completions, each group behind one copy of its prompt.
# Usage: examples/grpo_qwen2.5_1.5b_gsm8k.sh [MORE FLAGS, e.g. --dry-run]
set -euo pipefail

openrlhf-math grpo \
  --actor.model_name_or_path Qwen/Qwen2.5-1.5B-Instruct \
  --data.prompt_dataset openai/gsm8k@main --data.input_key question --data.label_key answer \
  --math.device cuda --math.run_dir runs/qwen2.5-1.5b-gsm8k \
  --actor.num_gpus_per_node 8 --vllm.num_engines 8 \
  --ds.zero_stage 2 --actor.gradient_checkpointing_enable \
  --rollout.batch_size 128 --rollout.n_samples_per_prompt 8 --train.max_tokens_per_gpu 16384 \
  --data.max_len 1536 --rollout.max_new_tokens 1024 \
  --actor.adam.lr 1e-6 --actor.lr_scheduler constant_with_warmup --train.num_episodes 2 \
  --ckpt.save_steps 20 \
  "$@"
