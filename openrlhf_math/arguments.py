"""OpenRLHF's nested arguments as types: what `--actor.adam.lr` is in `args.actor.adam.lr`.

At run time they are the namespaces that OpenRLHF makes; these classes are for the type checker. A test compares them
with OpenRLHF's parsers. A flag that may be left out, and that nothing fills in, may be None.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

Arguments = TypeVar("Arguments")


class Adam(Protocol):
    lr: float
    betas: Sequence[float]
    eps: float
    weight_decay: float


class Muon(Protocol):
    lr: float
    momentum: float
    ns_steps: int
    nesterov: bool


class Optimizer(Protocol):
    """The optimizer of a model, its schedule, and the norm to which gradients are clipped."""

    optim: str
    muon: Muon
    adam: Adam
    lr_scheduler: str
    lr_warmup_ratio: float
    min_lr_ratio: float
    max_norm: float


class LoraFlags(Protocol):
    rank: int
    alpha: int
    target_modules: list[str] | str
    dropout: float


class DeepSpeed(Protocol):
    use_universal_ckpt: bool
    zero_stage: int
    deepcompile: bool
    param_dtype: str
    zpg: int
    adam_offload: bool
    attn_implementation: str
    experts_implementation: str | None
    use_liger_kernel: bool
    grad_accum_dtype: str | None
    overlap_comm: bool
    tensor_parallel_size: int
    packing_samples: bool
    load_in_4bit: bool
    lora: LoraFlags
    ring_attn_size: int
    ring_attn_head_stride: int


class Wandb(Protocol):
    key: str | None
    org: str | None
    group: str | None
    project: str
    run_name: str


class Logger(Protocol):
    logging_steps: int
    wandb: Wandb
    tensorboard_dir: str


class Checkpoints(Protocol):
    """max_mem: GB. path: of checkpoints. output_dir: of the trained model."""

    path: str
    save_hf: bool
    disable_ds: bool
    max_num: int
    max_mem: float
    load_enable: bool
    output_dir: str


class SFTCheckpoints(Checkpoints, Protocol):
    save_steps: int


class SFTTrain(Protocol):
    """Batch sizes are in rows."""

    micro_batch_size: int
    batch_size: int
    seed: int
    full_determinism_enable: bool
    max_epochs: int


class SFTModel(Protocol):
    gradient_checkpointing_enable: bool
    gradient_checkpointing_reentrant: bool
    aux_loss_coef: float
    model_name_or_path: str
    pretrain_mode_enable: bool


class SFTData(Protocol):
    """max_len: tokens."""

    disable_fast_tokenizer: bool
    dataloader_num_workers: int
    dataset: str
    dataset_probs: str | None
    dataset_split: str
    max_samples: int
    multiturn: bool
    input_key: str | None
    output_key: str | None
    input_template: str | None
    apply_chat_template: bool
    tokenizer_chat_template: str | None
    max_len: int


class SFTEval(Protocol):
    steps: int
    dataset: str | None
    split: str


class SFTArguments(Optimizer, Protocol):
    """Of OpenRLHF's `train_sft`."""

    ckpt: SFTCheckpoints
    logger: Logger
    eval: SFTEval
    ds: DeepSpeed
    train: SFTTrain
    model: SFTModel
    data: SFTData
    local_rank: int
    use_ms: bool


class Devices(Protocol):
    """Of the processes of a model."""

    num_nodes: int
    num_gpus_per_node: int


class Ref(Devices, Protocol):
    offload: bool


class Reward(Devices, Protocol):
    """remote_url: OpenRLHF splits it at the commas. Lengths are in tokens."""

    normalize_enable: bool
    clip_range: Sequence[float]
    overlong_buffer_len: float | None
    overlong_penalty_factor: float
    stop_properly_penalty_coef: float | None
    model_name_or_path: str | None
    remote_url: list[str] | None
    offload: bool


class Train(Protocol):
    """Batch sizes are in completions."""

    colocate_actor_ref: bool
    colocate_critic_reward: bool
    colocate_all: bool
    async_enable: bool
    async_queue_size: int
    partial_rollout_enable: bool
    enable_ema: bool
    ema_beta: float
    dynamic_batch_enable: bool
    max_tokens_per_gpu: int
    num_episodes: int
    max_epochs: int
    micro_batch_size: int
    batch_size: int
    seed: int
    full_determinism_enable: bool
    agent_func_path: str | None


class Actor(Optimizer, Devices, Protocol):
    gradient_checkpointing_enable: bool
    gradient_checkpointing_reentrant: bool
    eps_clip: float
    eps_clip_low_high: Sequence[float]
    dual_clip: float | None
    policy_loss_type: str
    loss_agg_mode: str
    aux_loss_coef: float
    entropy_coef: float | None
    model_name_or_path: str
    freeze_visual_encoder: bool


class Critic(Optimizer, Devices, Protocol):
    value_clip: float
    freezing_steps: int
    save_value_network: bool
    model_name_or_path: str | None


class Vllm(Protocol):
    num_engines: int
    tensor_parallel_size: int
    sync_backend: str
    sync_with_ray: bool
    enable_prefix_caching: bool
    enforce_eager: bool
    enable_sleep: bool
    gpu_memory_utilization: float


class Advantage(Protocol):
    is_correction_level: str
    is_correction_mode: str
    is_correction_gating: str
    is_correction_threshold: Sequence[float]
    lambd: float
    gamma: float
    estimator: str
    no_std_norm: bool


class KL(Protocol):
    target: float | None
    horizon: int
    init_coef: float
    estimator: str
    unbiased_gradient: bool
    use_loss: bool


class Algo(Protocol):
    advantage: Advantage
    kl: KL
    dynamic_filtering_enable: bool
    dynamic_filtering_range: Sequence[float] | None


class Eval(Protocol):
    steps: int
    dataset: str | None
    split: str
    temperature: float
    n_samples_per_prompt: int


class RLCheckpoints(Checkpoints, Protocol):
    """save_steps: None for as often as it costs little."""

    save_steps: int | None
    best_metric_key: str


class RLDeepSpeed(DeepSpeed, Protocol):
    enable_sleep: bool
    value_head_prefix: str


class Data(Protocol):
    """max_len: tokens of prompt and completion."""

    disable_fast_tokenizer: bool
    dataloader_num_workers: int
    max_len: int
    max_samples: int
    prompt_dataset: str
    prompt_probs: str | None
    prompt_split: str
    input_key: str
    label_key: str
    input_template: str | None
    apply_chat_template: bool
    image_key: str
    max_images_per_prompt: int


class Rollout(Protocol):
    """Batch sizes are in prompts."""

    max_tokens_per_gpu: int | None
    batch_size: int
    vllm_generate_batch_size: int
    micro_batch_size: int
    max_new_tokens: int | None
    top_p: float
    temperature: float
    n_samples_per_prompt: int


class RLArguments(Protocol):
    """Of OpenRLHF's `train_ppo_ray`."""

    ref: Ref
    reward: Reward
    train: Train
    actor: Actor
    critic: Critic
    vllm: Vllm
    algo: Algo
    eval: Eval
    ckpt: RLCheckpoints
    logger: Logger
    ds: RLDeepSpeed
    data: Data
    rollout: Rollout
    local_rank: int
    use_ms: bool


class RunSettings(Protocol):
    """What our settings have in every training, in `args.math`."""

    @property
    def run_dir(self) -> Path: ...

    @property
    def device(self) -> str: ...

    @property
    def chat_date(self) -> str | None: ...


class TrainingArguments(Protocol):
    """What the arguments of every training have. Properties, since each has its own types of these sections."""

    @property
    def math(self) -> RunSettings: ...

    @property
    def ckpt(self) -> Checkpoints: ...

    @property
    def logger(self) -> Logger: ...

    @property
    def ds(self) -> DeepSpeed: ...


def with_values(args: Arguments, values: dict[str, Any]) -> Arguments:
    """A copy of nested arguments with other values. values: by dotted name, such as `ds.enable_sleep`."""
    changed = copy.copy(args)
    for name, value in values.items():
        section, _, rest = name.partition(".")
        setattr(changed, section, with_values(getattr(changed, section), {rest: value}) if rest else value)
    return changed
