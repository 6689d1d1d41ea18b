#!/usr/bin/env bash
# A 7B process reward model from Qwen2.5-Math-7B-Instruct on one node with 8 GPUs of 80 GiB: attempts are sampled, their
# steps labelled by Monte-Carlo completions (Math-Shepherd), and a head of two labels is trained, ZeRO-3 and rows
# without padding. With LABELS the first two stages are left out: PRM800K's labels, say, from
# `openrlhf-math prm label --source prm800k`. After a kill the same command resumes.
# Usage: PROBLEMS=data/problems [LABELS=runs/labels] [BASE=path] \
#   examples/prm_qwen2.5_math_7b.sh [MORE FLAGS, e.g. --dry-run]
set -euo pipefail
gpus="${GPUS:-8}" base="${BASE:-Qwen/Qwen2.5-Math-7B-Instruct}" labels="${LABELS:-runs/prm-7b/labels}"

# A dry run starts nothing: one process that knows how many there would be.
launch=(torchrun --nproc-per-node "$gpus" -m openrlhf_math)
case " $* " in
  *" --dry-run "*) launch=(env "WORLD_SIZE=$gpus" python -m openrlhf_math) ;;
  *)
    if [ -z "${LABELS:-}" ] && [ ! -e "$labels/train.parquet" ]; then
      openrlhf-math eval --model "$base" --benchmark "${PROBLEMS:?give a problem set}" --samples 8 --temperature 0.8 \
        --max-tokens 2048 --output runs/prm-7b/attempts
      openrlhf-math prm label --source monte-carlo --model "$base" --completions 8 --hard --heldout 0.02 \
        --concurrency 512 --max-context 4096 --output "$labels" runs/prm-7b/attempts/completions.jsonl
    fi
    ;;
esac

"${launch[@]}" prm train \
  --model.model_name_or_path "$base" \
  --data.dataset "$labels/train.parquet" --eval.dataset "$labels/heldout.parquet" --eval.steps 100 \
  --math.device cuda --math.run_dir runs/prm-7b/model \
  --data.max_len 4096 \
  --ds.zero_stage 3 --model.gradient_checkpointing_enable \
  --train.batch_size 128 --train.micro_batch_size 4 --train.max_epochs 1 \
  --adam.lr 1e-5 --lr_warmup_ratio 0.03 \
  --ckpt.save_steps 100 --ckpt.max_num 2 --ckpt.load_enable \
  "$@"
