"""What the flags of OpenRLHF that one needs for `grpo` mean here, as `--help` says it."""

from openrlhf_math.grpo.generation import ASYNCHRONOUS
from openrlhf_math.grpo.objective import CONSTANT_LENGTH
from openrlhf_math.training.lora import LORA
from openrlhf_math.training.short_help import CHECKPOINTS

OF_A_RUN = CHECKPOINTS | {
    "ckpt.save_steps": "steps between checkpoints; -1 for none, 1 to lose at most the current step (default: as often "
    "as saving takes at most 5%% of the time)",
    "ckpt.path": "directory of the checkpoints, on a disk that all nodes share (default: checkpoints in the run "
    "directory)",
    "ckpt.max_num": "checkpoints to keep besides the best by evaluation; the oldest is deleted when the next is "
    "complete",
    "logger.wandb.run_name": "name of the run, also in TensorBoard (default: the name of the run directory)",
}

# What differs from OpenRLHF, or is not plain from its help; the formulas are in docs/losses.md.
OBJECTIVE = {
    "algo.advantage.estimator": "grpo, grpo_no_std, one of OpenRLHF's, or your own as package.module.function "
    "(default: of --math.recipe)",
    "actor.policy_loss_type": "ppo, gspo, cispo, sapo, or your own as package.module.function, "
    "grpo.losses.LossInputs to a loss for each token (default: of --math.recipe)",
    "actor.loss_agg_mode": "how the loss is averaged: token-mean (over all action tokens of a step), "
    "seq-mean-token-mean (over the tokens of each completion, then over completions, so that a token of a long one "
    f"weighs less) or {CONSTANT_LENGTH} (sums over completions, divided by their number and by --math.loss_length). "
    "A KL loss and an entropy bonus are averaged in the same way (default: of --math.recipe)",
    "actor.eps_clip": "clip range of the ratio, lower and upper alike (default: of --math.recipe)",
    "actor.eps_clip_low_high": "clip range of the ratio: 1 - LOW to 1 + HIGH (default: of --math.recipe)",
    "algo.kl.init_coef": "weight of the KL term; above 0 a reference model is loaded (default: of --math.recipe)",
    "algo.kl.use_loss": "put the KL term into the loss, averaged by --actor.loss_agg_mode, and not into the reward "
    "(default: of --math.recipe)",
    "algo.kl.estimator": "estimator of the KL: k1, k2 or k3 (default: of --math.recipe)",
    "algo.dynamic_filtering_enable": "replace groups whose advantages are all zero with the next problems (default: of "
    "--math.recipe)",
    "algo.advantage.is_correction_level": "what a gate of the correction of rollouts looks at: token, seq (the mean "
    "over a completion), or off; --math.rollout_correction has presets",
    "algo.advantage.is_correction_mode": "what happens outside the bounds: mask leaves a token or completion out, clip "
    "cuts the weight of a token at the bound (default: mask)",
    "algo.advantage.is_correction_gating": "what the bounds are of: ratio (policy / engine), binary_kl or tv (of the "
    "sampled token's probabilities) (default: ratio)",
    "algo.advantage.is_correction_threshold": "LOW HIGH bounds, or HIGH alone (default: 0.5 5.0)",
}
LOSS = {
    "actor.aux_loss_coef": "weight of the auxiliary loss that balances a mixture of experts; refused for models that "
    "have none in Transformers (default: %(default)s)",
    "actor.entropy_coef": "weight of an entropy bonus in the loss; 0 to log the entropy only",
    "algo.dynamic_filtering_range": "with --algo.dynamic_filtering_enable: also replace groups whose mean score is not "
    "between these two (default: any mean)",
    "reward.clip_range": "rewards are clipped to this range after penalties and before the advantages are computed "
    "(default: %(default)s)",
    "actor.model_name_or_path": "the policy: a directory or a hub name",
    "data.prompt_dataset": "problems: a file, a directory or a hub name, several separated by commas",
    "data.input_key": "column of the problem (default: %(default)s)",
    "data.label_key": "column of the gold answer (default: %(default)s)",
    "actor.adam.lr": "learning rate (default: %(default)s)",
    "train.num_episodes": "passes over the problems (default: %(default)s)",
    "eval.dataset": "problems that the policy is evaluated on as it trains",
    "eval.steps": "steps between evaluations; -1 for none but the last (default: %(default)s)",
    "data.max_samples": "use only the first N problems (default: %(default)s)",
    "data.max_len": "most tokens of a prompt with its completion; the model must have as many positions (default: "
    "%(default)s)",
    "rollout.max_new_tokens": "most tokens of a completion (default: what --data.max_len leaves after the prompt)",
    "rollout.batch_size": "prompts of a rollout batch (default: %(default)s)",
    "rollout.n_samples_per_prompt": "completions of each prompt: the size of a group (default: %(default)s)",
    "train.batch_size": "completions of an optimizer step, over all processes; must divide those of a rollout batch "
    "(default: all of them, one step a batch)",
}
PADDED_BATCHES = {
    "ds.attn_implementation": "for padded batches only; rows without padding use an attention of this package "
    "(default: flash_attention_2 on a GPU where flash-attn is installed, else PyTorch's)",
    "ds.packing_samples": "for padded batches only: remove their padding, which needs flash-attn",
    "ds.ring_attn_size": "number of processes that share a sequence; with padded batches; needs flash-attn and "
    "ring-flash-attn (default: %(default)s)",
    "train.dynamic_batch_enable": "for padded batches only: micro-batches of up to --train.max_tokens_per_gpu tokens, "
    "which needs flash-attn; rows without padding are always filled up to that number",
    "train.max_tokens_per_gpu": "tokens that a process trains on at once, in rows without padding and in dynamic "
    "batches (default: 16192, on a CPU 4096)",
}
DEVICES = {
    "actor.num_gpus_per_node": "devices of the policy on each node; on a CPU, processes (default: 1)",
    "vllm.num_engines": "vLLM engines (default: as many as fill the policy's devices)",
} | {
    f"{model}.{what}": f"{words} of the {name} (default: as the policy)"
    for model, name in (("ref", "reference model"), ("critic", "critic"), ("reward", "reward model"))
    for what, words in (("num_nodes", "nodes"), ("num_gpus_per_node", "devices on each node"))
}
CRITIC = {
    "critic.model_name_or_path": "what the critic of --algo.advantage.estimator gae begins from (default: the reward "
    "model, or the policy's model)",
    "critic.freezing_steps": "with a critic: the first N + 1 steps do not train the policy; -1 to train it from the "
    "first step on (default: %(default)s)",
}
PROMPTS = {
    "data.apply_chat_template": "render prompts with the tokenizer's chat template; without it they are plain text "
    "after the tokenizer's first token (BOS)",
    "data.input_template": "without a chat template: the prompt, with {} for the problem; everything else is literal",
    "data.max_images_per_prompt": "must be 0: problems are text",
    "rollout.temperature": "sampling temperature, above 0 (default: %(default)s)",
    "rollout.top_p": "must be 1: the trainer computes log-probabilities over all tokens; so there is no top-k or min-p",
    "eval.temperature": "sampling temperature of evaluations, 0 for greedy (default: of the model's "
    "generation_config.json if it asks for sampling, else 0.6)",
}
# Of OpenRLHF's own way to train and generate at once.
REFUSED = dict.fromkeys(ASYNCHRONOUS, "refused; --math.overlap 1 trains and generates at once") | {
    "rollout.vllm_generate_batch_size": "must be --rollout.batch_size, or 0: engines are asked for a batch at a time",
}

HELP = OF_A_RUN | OBJECTIVE | LOSS | PROMPTS | LORA | PADDED_BATCHES | DEVICES | CRITIC | REFUSED  # by dotted flag
