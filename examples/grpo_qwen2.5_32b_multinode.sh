#!/usr/bin/env bash
# Qwen2.5-32B (the distilled student) on 4 nodes with 8 GPUs of 80 GiB each. A training process takes 16,384 tokens at
# once: completions of a group behind one copy of their prompt.
# Start Ray first: `ray start --head` on one node, `ray start --address HEAD:6379` on the others, then run this
# on the head, or pass it to examples/submit_ray_job.sh. The run directory must be on a shared file system.
# Usage: STUDENT=path examples/grpo_qwen2.5_32b_multinode.sh [MORE FLAGS, e.g. --dry-run]
set -euo pipefail

openrlhf-math grpo \
  --actor.model_name_or_path "${STUDENT:-Qwen/Qwen2.5-32B-Instruct}" \
  --data.prompt_dataset open-r1/OpenR1-Math-220k --data.input_key problem --data.label_key answer \
  --math.device cuda --math.answer_style think --math.run_dir runs/qwen2.5-32b \
  --actor.num_nodes 4 --actor.num_gpus_per_node 8 \
  --vllm.num_engines 8 --vllm.tensor_parallel_size 4 \
  --ds.zero_stage 3 --ds.adam_offload --actor.gradient_checkpointing_enable \
  --train.max_tokens_per_gpu 16384 \
  --rollout.batch_size 128 --rollout.n_samples_per_prompt 16 \
  --data.max_len 17408 --rollout.max_new_tokens 16384 --rollout.temperature 0.6 \
  --vllm.gpu_memory_utilization 0.7 \
  --actor.adam.lr 1e-6 --actor.lr_scheduler constant_with_warmup \
  --algo.dynamic_filtering_enable \
  --ckpt.save_steps 10 \
  "$@"
