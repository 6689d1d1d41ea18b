#!/usr/bin/env bash
# DeepSeek-R1-Distill-Qwen-7B on OpenR1-Math, one node with 8 GPUs of 80 GiB, long chains of thought.
# A training process takes 16,384 tokens at once: completions of a group behind one copy of their prompt.
# Usage: examples/grpo_r1_distill_7b.sh [MORE FLAGS, e.g. --dry-run]
set -euo pipefail

openrlhf-math grpo \
  --actor.model_name_or_path deepseek-ai/DeepSeek-R1-Distill-Qwen-7B \
  --data.prompt_dataset open-r1/OpenR1-Math-220k --data.input_key problem --data.label_key answer \
  --math.device cuda --math.answer_style think --math.run_dir runs/r1-distill-7b \
  --actor.num_gpus_per_node 8 --vllm.num_engines 8 \
  --ds.zero_stage 3 --ds.adam_offload --actor.gradient_checkpointing_enable \
  --train.max_tokens_per_gpu 16384 \
  --rollout.batch_size 64 --rollout.n_samples_per_prompt 16 \
  --data.max_len 9216 --rollout.max_new_tokens 8192 --rollout.temperature 0.6 \
  --vllm.gpu_memory_utilization 0.7 \
  --actor.adam.lr 1e-6 --actor.lr_scheduler constant_with_warmup \
  --algo.dynamic_filtering_enable \
  --ckpt.save_steps 10 \
  "$@"
