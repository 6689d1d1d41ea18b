"""LoRA flags: the layers they adapt, found without loading weights, and combinations that are refused."""

import hashlib
import json
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.arguments import LoraFlags
from openrlhf_math.checkpoints.folder import ADAPTER, digest
from openrlhf_math.errors import UserError, first_line
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.training.flag_checks import CRITIC_FLAG

if TYPE_CHECKING:
    from peft import PeftModel

LORA = {
    "ds.lora.rank": "train adapters of this rank and freeze the weights; the model is saved merged, with the adapter "
    "in its subfolder adapter; 0 trains all weights",
    "ds.lora.alpha": "the output of an adapter is scaled by alpha / rank",
    "ds.lora.dropout": "dropout on the inputs of the adapters; for sft only",
    "ds.lora.target_modules": "layers to adapt, by the last part of their names, or all-linear: all linear layers "
    "except the output head, and the experts and the router of a mixture of experts",
    "ds.load_in_4bit": "not supported",
}


ALL_LINEAR = "all-linear"
PLAIN = {"ds.lora.alpha": 16, "ds.lora.dropout": 0, "ds.lora.target_modules": ALL_LINEAR}
# With these OpenRLHF or DeepSpeed would change or need weights that adapters leave frozen or wrap.
OBSTACLES = {
    "ds.tensor_parallel_size": (1, "DeepSpeed's tensor parallelism does not split adapters"),
    "train.enable_ema": (False, "OpenRLHF's average is over a model without adapters"),
    "critic.model_name_or_path": (None, "OpenRLHF would freeze the critic's new value head"),
}


@dataclass(frozen=True)
class Lora:
    """What a run with LoRA trains.

    rank: of each adapter. targets: adapted modules by the last part of their name, with their number. parameters:
    trained, 0 if the model's configuration cannot be read. base: digest of the weights in the model's directory, which
    its checkpoints leave out; empty for a model from the hub and where it was not asked for.
    """

    rank: int
    targets: dict[str, int]
    parameters: int
    base: str = ""


def check_flags(flags: dict) -> None:
    """Raise UserError for LoRA flags that cannot work together; write `all-linear` as PEFT wants it.

    flags: by dotted name, of `grpo` or `sft`.
    """
    if flags["ds.load_in_4bit"]:
        raise UserError(
            "--ds.load_in_4bit is not supported: bitsandbytes is not among the requirements, and weights in 4 bits can "
            "neither be sent to vLLM nor be saved merged; train adapters on the bf16 weights with --ds.lora.rank"
        )
    targets = flags["ds.lora.target_modules"]
    if isinstance(targets, list) and ALL_LINEAR in targets:
        if len(targets) > 1:
            raise UserError(f"--ds.lora.target_modules {' '.join(targets)}: give {ALL_LINEAR} alone, or names alone")
        flags["ds.lora.target_modules"] = ALL_LINEAR
    rank, alpha, dropout = (flags[f"ds.lora.{name}"] for name in ("rank", "alpha", "dropout"))
    if rank < 0:
        raise UserError(f"--ds.lora.rank {rank}: give 1 or more, or 0 to train all weights")
    if rank == 0:
        for name, plain in PLAIN.items():
            if flags[name] != plain:
                raise UserError(f"--{name} has no effect without --ds.lora.rank; give a rank, such as 16")
        return
    if not flags["ds.lora.target_modules"]:
        raise UserError(f"--ds.lora.target_modules names nothing; give {ALL_LINEAR} or names of linear layers")
    if alpha <= 0:
        raise UserError(f"--ds.lora.alpha {alpha}: give 1 or more; adapters count alpha / rank times")
    if not 0 <= dropout < 1:
        raise UserError(f"--ds.lora.dropout {dropout}: give a share from 0 to below 1")
    for name, (plain, reason) in OBSTACLES.items():
        if flags.get(name, plain) not in (plain, None):
            flag = CRITIC_FLAG if name == "critic.model_name_or_path" else f"--{name}"
            raise UserError(f"--ds.lora.rank with {flag}: {reason}; leave one of the two out")


def look(model: str, lora: LoraFlags) -> Lora | None:
    """What LoRA would train in a model, on which PEFT is tried without its weights. None without LoRA.

    model: directory or hub name. lora: the flags `--ds.lora.*`. Raises UserError if a name matches nothing, if PEFT
    refuses the names, and if the output head or the embeddings are among them.
    """
    if not lora.rank:
        return None
    try:
        adapted = _adapted(model, lora, lora.target_modules)
    except (ImportError, OSError):  # no such configuration, or no network: said where the model is loaded
        return Lora(lora.rank, {}, 0)
    names = _names(adapted)
    if isinstance(lora.target_modules, list):
        for target in lora.target_modules:
            if not any(_is_at(target, name) for name in names) and _has_no_effect(model, lora, target, names):
                raise UserError(f"--ds.lora.target_modules {target}: {model} has no such layer; correct the name")
    _check_kinds(adapted)
    kinds = Counter(name.rpartition(".")[2] for name in names)
    return Lora(lora.rank, dict(kinds), sum(each.numel() for each in adapted.parameters() if each.requires_grad))


def _check_kinds(adapted: "PeftModel") -> None:
    """Raise UserError for layers whose adapters cannot be merged, or which the loss reads the weights of."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import Linear, ParamWrapper

    head = adapted.get_output_embeddings()
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer) and (module is head or type(module) not in (Linear, ParamWrapper)):
            kind = "the output head" if module is head else f"{type(module.get_base_layer()).__name__} layers"
            raise UserError(
                f"--ds.lora.target_modules {name.rpartition('.')[2]}: {kind} cannot be adapted here; leave it out"
            )


def _adapted(model: str, lora: LoraFlags, targets: list[str] | str) -> "PeftModel":
    """The model with adapters as OpenRLHF adds them, without memory for its weights."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    trust = remote_code_trusted()
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust)
        kind = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        with torch.device("meta"):
            plain = kind.from_config(config, trust_remote_code=trust)
    except Exception as error:  # whatever its config.json or its code is like: said where the model is loaded
        raise OSError(str(error)) from None
    wanted = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns for experts that PEFT itself wrote
            return get_peft_model(plain, wanted)
    except (ValueError, NotImplementedError) as error:
        given = targets if isinstance(targets, str) else " ".join(targets)
        raise UserError(
            f"--ds.lora.target_modules {given}: PEFT refuses it for {model} ({first_line(error)})"
        ) from None


def _names(adapted: "PeftModel") -> list[str]:
    """Of the adapted modules, in the model without adapters; of experts also the parameter, once for each."""
    from peft.tuners.lora import LoraLayer

    names = []
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            name = name.removeprefix("base_model.model.").replace(".base_layer", "")
            parameter = getattr(module, "parameter_name", "weight")
            names.append(name if parameter == "weight" else f"{name}.{parameter}")
    return names


def _is_at(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _has_no_effect(model: str, lora: LoraFlags, target: str, names: list[str]) -> bool:
    """Whether the other targets alone adapt the same. PEFT has other names for the experts of some models."""
    others = [each for each in lora.target_modules if each != target]
    if not others:
        return False
    try:
        return _names(_adapted(model, lora, others)) == names
    except UserError:
        return False


def lora_line(lora: Lora, parameters: int, output: str) -> str:
    """For a dry run. parameters: of the model, 0 if unknown. output: where the model is saved."""
    share = f" of {parameters:,} ({lora.parameters / parameters:.2%})" if parameters and lora.parameters else ""
    modules = ", ".join(f"{name} ({count})" for name, count in lora.targets.items())
    trained = f"{lora.parameters:,} parameters{share} trained, in {modules}" if lora.parameters else "size unknown"
    return (
        f"LoRA of rank {lora.rank}: {trained}; embeddings, output head, norms and biases are not trained; the merged "
        f"model goes to {output}, the adapters to {output}/{ADAPTER}"
    )


def base_digest(model: str) -> str:
    """Of the weight files in a model's directory, SHA-256; empty for a hub name."""
    files = sorted(path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin"))
    if not files:
        return ""
    return hashlib.sha256("".join(f"{path.name} {digest(path)}\n" for path in files).encode()).hexdigest()


def check_base(run_dir: Path, model: str, lora: Lora | None) -> None:
    """Raise UserError if the run in `run_dir` began with other base weights: its checkpoints hold adapters alone."""
    config = run_dir / "config.json"
    if lora is None or not config.exists():
        return
    before = json.loads(config.read_text())["math"].get("lora") or {}
    if before.get("base") != lora.base:
        raise UserError(
            f"--ckpt.load_enable: the weights in {model} are not those that the run in {run_dir} began with, and its "
            "checkpoints hold adapters alone; put them back, or begin another run"
        )
