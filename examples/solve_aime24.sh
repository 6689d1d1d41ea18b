#!/usr/bin/env bash
# AIME'24 by a 7B model and a 7B process reward model on two GPUs: up to 64 attempts at a problem, five hours for all 30,
# as in a competition. Rerun it after a kill: solved problems are kept.
# On a cluster: RAY_ADDRESS=http://HEAD:8265 examples/submit_ray_job.sh examples/solve_aime24.sh
# Usage: examples/solve_aime24.sh [MORE FLAGS]; on one GPU of 80 GB add --share-device
# This PRM reads 4,096 tokens; a longer attempt has no score and counts as the lowest. For long reasoning as R1's use
# --rule majority without a scorer.
set -euo pipefail

mkdir -p runs
openrlhf-math solve \
  --model "${MODEL:-Qwen/Qwen2.5-Math-7B-Instruct}" --max-context 4096 --max-tokens 3072 \
  --scorer qwen2.5-math-prm --scorer-model "${PRM:-Qwen/Qwen2.5-Math-PRM-7B}" \
  --problems HuggingFaceH4/aime_2024 --split train \
  --temperature 0.7 --top-p 0.8 \
  --attempts 64 --confidence 0.95 --rule weighted --aggregate last \
  --total-seconds 18000 --problem-concurrency 8 \
  --output runs/aime24.jsonl --resume \
  "$@"
