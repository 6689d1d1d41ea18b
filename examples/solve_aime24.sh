#!/usr/bin/env bash
# AIME'24 by a 7B model and a 7B process reward model on two GPUs: up to 32 attempts at a problem, five hours for all 30,
# as in a competition. Run it again after a kill: what is solved is kept.
# On a cluster: RAY_ADDRESS=http://HEAD:8265 examples/submit_ray_job.sh examples/solve_aime24.sh
# Usage: examples/solve_aime24.sh [MORE FLAGS]; on one GPU of 80 GB add --share-device
set -euo pipefail

openrlhf-math solve \
  --model "${MODEL:-deepseek-ai/DeepSeek-R1-Distill-Qwen-7B}" --max-context 16384 --max-tokens 12288 \
  --scorer qwen2.5-math-prm --scorer-model "${PRM:-Qwen/Qwen2.5-Math-PRM-7B}" \
  --file HuggingFaceH4/aime_2024 --split train \
  --style think --temperature 0.6 --top-p 0.95 \
  --attempts 32 --confidence 0.95 --rule weighted --aggregate last \
  --total-seconds 18000 --problems-at-once 8 \
  --output runs/aime24.jsonl --resume \
  "$@"
