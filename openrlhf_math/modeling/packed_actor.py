"""OpenRLHF's actor model, computing only what the loss reads: no padding, each prompt once, no logits."""

import math
from types import SimpleNamespace
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from jaxtyping import Float32, Int64, Shaped
from openrlhf.models import Actor
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from openrlhf_math.errors import first_line
from openrlhf_math.modeling import SHARED_PREFIX, shared_prefix_attention
from openrlhf_math.modeling.families import Family, reset_dynamic_rope
from openrlhf_math.modeling.log_prob_head import LogProbHead, logit_transform
from openrlhf_math.modeling.packing import Packed, by_length, pack, unpack
from openrlhf_math.modeling.probe import Probe, Reference, WrongPath, evaluating
from openrlhf_math.modeling.shared_prefix_attention import packed_row

Tensor = torch.Tensor
SHARED, ROWS, PADDED = "shared", "rows", "padded"
WHAT_ROWS_COST = "each sequence has its own row, and completions do not share their prompt"
# Ways through the model, by their forward passes: one row for all, a batch for rows of similar lengths, one for each.
IN_ONE_ROW, TOGETHER, APART = range(3)
ADAPTER_DROPOUT = "lora_dropout"
DROPOUT = ("dropout", "pdrop", "layerdrop")
# What OpenRLHF hands to an actor besides the batch and images.
NO_INPUTS = ("ring_attn_group", "packed_seq_lens", "return_logprobs", "allgather_logits")


# Log-probabilities and entropies, float32 [batch, tokens - 1], and the auxiliary loss of routers.
Results = tuple[Float32[Tensor, "batch actions"], Float32[Tensor, "batch actions"], Tensor | float]


class PackedActor(Actor):
    """Takes and returns what `Actor` does, for one prompt and one completion in each row.

    path: how a batch goes through the model. "shared": as one row, each prompt of a group in it once. "rows": a
    sequence a row, padded on the right to others of similar length, with the attention of the model's own code.
    "padded": as `Actor` does it, with all logits. They give the same numbers where the model allows the first;
    `choose_path` finds out whether it does. `attn_implementation` asks for "shared", or else for "padded".
    """

    def __init__(
        self,
        pretrain_or_model: str | nn.Module,
        attn_implementation: str = "sdpa",
        ds_config: dict | None = None,
        **kwargs: Any,
    ) -> None:
        shared_prefix_attention.register()
        if get_accelerator().device_name() == "cpu":
            # OpenRLHF would load a ZeRO-3 model into shards, and its rotary frequencies into bfloat16, which moves
            # logits by up to 0.1. Without this every process loads the whole model; DeepSpeed shards it afterwards.
            ds_config = None
        packs = attn_implementation == SHARED_PREFIX
        attention = None if packs else attn_implementation  # None: the one that the model prefers
        super().__init__(pretrain_or_model, attn_implementation=attention, ds_config=ds_config, **kwargs)
        self.config = self.model.config  # DeepSpeed's engine has another under this name
        self.family = Family.of(self.config)
        self.rows_attention = self.family.rows_attention or self.config._attn_implementation
        shares = self.family.shares_prompts and can_choose_attention(self.model)
        self.path = PADDED if not packs else SHARED if shares else ROWS
        self.path_is_chosen = False
        self.log_prob_head: LogProbHead | None = None  # of the paths without logits
        self.balance_routers(False)  # OpenRLHF switches their logits on, whether a loss reads them or not
        switch_off_dropout(self.model)

    def choose_path(self) -> str | None:
        """Find the path that gives the model's own log-probabilities; the first call of `forward` does it, too.

        Every process of a training calls it. Returns a sentence where it is not the path that was to be taken.
        Raises WrongPath if there is none.
        """
        name, device = type(unwrapped(self.model)).__name__, next(self.model.parameters()).device
        probe = Probe.of(self.config.get_text_config().vocab_size, device)
        self.path_is_chosen = True
        with evaluating(self):
            self._attend_with("eager")
            self._check_model_forward(name, probe.sequences[:1])
            try:
                self._look_at_head(probe)
            except ValueError as error:
                raise WrongPath(f"{name} cannot be trained: {error}; choose another model") from error
            reference = Reference.of(self.model, lambda: probe.one_at_a_time(self._model_log_probs), self.model.dtype)
            reasons = [self._why_rows()] if self.path == ROWS else []
            for path, attention in self._paths():
                self.path, self.rows_attention = path, attention
                if (wrong := self._wrong(probe, reference)) is None:
                    what = WHAT_ROWS_COST if path == ROWS else f"{attention} attention is taken"
                    return f"{name}: {what}: {reasons[0]}" if reasons else None
                what = "a packed row" if path == SHARED else f"{path} with {attention} attention"
                reasons.append(f"{what} {wrong}")
        raise WrongPath(
            f"{name} cannot be trained, no path gives the log-probabilities of its own code ({'; '.join(reasons)}); "
            "choose another model"
        )

    def _look_at_head(self, probe: Probe) -> None:
        """Find out what has to be known of the output head. Raises ValueError for one that cannot be read."""
        if self.path != PADDED:
            transform = logit_transform(self.model, self.config, probe.sequences[:1])
            self.log_prob_head = LogProbHead(transform, self.temperature)

    def _check_model_forward(self, name: str, tokens: Tensor) -> None:
        """Raise WrongPath if the model's own code fails, or has not the auxiliary loss that is wanted."""
        try:
            output = self.model(tokens, use_cache=False)
        except Exception as error:
            words = f"its own forward pass fails with {type(error).__name__}: {first_line(error)}"
            raise WrongPath(f"{name} cannot be trained: {words}; choose another model") from error
        if self.router_loss and not output.get("aux_loss"):  # None, or 0 of a model that counts no router
            raise WrongPath(
                f"{name} has no auxiliary loss of routers in Transformers; leave out --actor.aux_loss_coef (sft: "
                "--model.aux_loss_coef)"
            )

    def _wrong(self, probe: Probe, reference: Reference) -> str | None:
        """What is wrong with the path that is set, or None."""
        try:
            log_probs = self._path_log_probs(probe)
        except Exception as error:  # whatever a model's own code makes of a packed row
            return f"fails with {type(error).__name__}: {first_line(error)}"
        verdict = reference.judge(log_probs)
        return None if verdict.right else f"differs {verdict}"

    def _path_log_probs(self, probe: Probe) -> Float32[Tensor, " actions"]:
        """By the path that is set."""
        log_probs = PackedActor.forward(self, probe.sequences, probe.action_mask, probe.attention_mask)
        assert isinstance(log_probs, Tensor)  # without return_output
        return log_probs[probe.action_mask]

    def _why_rows(self) -> str:
        return self.family.why_rows()

    def _paths(self) -> list[tuple[str, str]]:
        """Paths with the attention of rows, the best first."""
        plain = PADDED if self.path == PADDED else ROWS
        rows = [(plain, attention) for attention in dict.fromkeys((self.rows_attention, "eager"))]
        return [(SHARED, self.rows_attention), *rows] if self.path == SHARED else rows

    def _model_log_probs(self, sequence: Int64[Tensor, "1 tokens"]) -> Float32[Tensor, " tokens-1"]:
        """By the model's own code."""
        self._attend_with("eager")
        logits = self.model(sequence, use_cache=False).logits.float() / self.temperature
        return logits[0, :-1].log_softmax(dim=-1).gather(1, sequence[0, 1:, None])[:, 0]

    def train(self, mode: bool = True) -> "PackedActor":
        """In training, too, most modules compute as in evaluation: some have more than dropout that is random then, as
        PhiMoE's routers, or change weights, as Gemma 3n. Layers with gradient checkpointing want to be in training."""
        super().train(mode)
        if mode:
            for path, module in self.model.named_modules():
                trains = isinstance(module, (GradientCheckpointingLayer, PeftModel)) or ADAPTER_DROPOUT in path
                module.training = trains or module is self.model
        return self

    def balance_routers(self, wanted: bool) -> None:
        """Whether `forward` also gives the auxiliary loss that balances a mixture's experts."""
        self.router_loss = wanted
        for config in (self.config, self.config.get_text_config()):
            if hasattr(config, "output_router_logits"):
                config.output_router_logits = wanted

    def forward(
        self,
        sequences: Int64[Tensor, "batch tokens"],
        action_mask: Shaped[Tensor, "batch tokens-1"] | None = None,
        attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
        return_output: bool = False,
        return_entropy: bool = False,
        **others: Any,
    ) -> Tensor | tuple[Tensor, Any]:
        """Log-probabilities of actions, float32 [batch, tokens - 1], and with `return_output` an object with `entropy`
        (of the same shape, or None) and `aux_loss` (0 if routers are not balanced).

        sequences: padded on the right. Masks are bool or integers.
        """
        if not self.path_is_chosen and others.get("ring_attn_group") is None:
            self.choose_path()
        images = any(value is not None for name, value in others.items() if name not in NO_INPUTS)
        if self.path == PADDED or action_mask is None or images:
            self._attend_with(self.rows_attention)
            return super().forward(
                sequences, action_mask, attention_mask,
                return_output=return_output, return_entropy=return_entropy, **others,
            )  # fmt: skip
        assert attention_mask is not None
        lengths = attention_mask.sum(dim=1).tolist()
        packed = pack(sequences, attention_mask, action_mask) if self.path == SHARED else None
        way = IN_ONE_ROW if packed and packed.layout.tokens <= self.family.longest_packed_row else TOGETHER
        way = self._agreed(APART if max(lengths) > self.family.longest_alike else way, sequences.device)
        if packed and way == IN_ONE_ROW:
            log_probs, entropies, aux_loss = self._as_one_row(packed)
        else:
            log_probs, entropies, aux_loss = self._as_rows(sequences, action_mask, lengths, way == APART)
        if not return_output:
            return log_probs
        return log_probs, SimpleNamespace(entropy=entropies if return_entropy else None, aux_loss=aux_loss)

    def _is_sharded(self) -> bool:
        """Whether every forward pass gathers weights from other processes (ZeRO-3), which must then take as many."""
        if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
            return False
        return any(hasattr(parameter, "ds_id") for parameter in self.model.parameters())

    def _agreed(self, way: int, device: torch.device) -> int:
        """The way that all processes take where weights are sharded: the highest of theirs.

        A process that takes fewer forward passes than another would leave it waiting for weights for ever.
        """
        if not self._is_sharded():
            return way
        highest = torch.tensor(way, device=device)
        torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
        return int(highest.item())

    def _as_one_row(self, packed: Packed) -> Results:
        self._attend_with(SHARED_PREFIX)
        assert self.log_prob_head is not None
        with (
            packed_row(packed.layout),
            self.log_prob_head.reading(self.model, packed.predicts, packed.targets) as found,
        ):
            # A mask of two dimensions keeps Transformers from taking the prompts and completions for sequences of
            # their own. As weights of the auxiliary loss, it counts a prompt once for each of its completions.
            output = self.model(
                packed.input_ids, position_ids=packed.positions, attention_mask=packed.counts, use_cache=False
            )
        log_probs, entropies = found[0].unbind(dim=-1)
        return unpack(log_probs, packed), unpack(entropies, packed), self._aux_loss(output)

    def _as_rows(
        self,
        sequences: Int64[Tensor, "batch tokens"],
        action_mask: Shaped[Tensor, "batch tokens-1"],
        lengths: list[int],
        apart: bool,
    ) -> Results:
        """lengths: of the sequences. apart: one sequence at a time."""
        numbers = list(range(len(lengths)))
        at_once = self.router_loss or self._is_sharded()  # one forward pass in every process
        parts = [[number] for number in numbers] if apart else [numbers] if at_once else by_length(lengths)
        log_probs, entropies = (torch.zeros(action_mask.shape, device=sequences.device) for _ in range(2))
        aux_loss: Tensor | float = 0
        for part in parts:
            rows = torch.tensor(part, device=sequences.device)
            one, other, loss = self._as_a_batch(sequences[rows], action_mask[rows], [lengths[n] for n in part])
            log_probs, entropies = log_probs.index_copy(0, rows, one), entropies.index_copy(0, rows, other)
            aux_loss = aux_loss + loss * len(part) / len(numbers)
        return log_probs, entropies, aux_loss

    def _as_a_batch(
        self,
        sequences: Int64[Tensor, "batch tokens"],
        action_mask: Shaped[Tensor, "batch tokens-1"],
        lengths: list[int],
    ) -> Results:
        """What follows a token has no effect on it: a model that is causal needs no mask for padding on the right."""
        longest = max(lengths)
        inputs, actions = sequences[:, :longest], action_mask[:, : longest - 1].bool()
        positions = torch.arange(longest, device=sequences.device).expand(len(inputs), -1)
        ends = torch.tensor(lengths, device=sequences.device)[:, None]
        mask = {"attention_mask": (positions < ends).long()} if self.router_loss else {}
        places = nn.functional.pad(actions, (0, 1)).flatten().nonzero()[:, 0]
        targets = inputs[:, 1:][actions]
        self._attend_with(self.rows_attention)
        assert self.log_prob_head is not None
        with self.log_prob_head.reading(self.model, places, targets) as found:
            output = self.model(inputs, position_ids=positions, use_cache=False, **mask)
        padded = []
        for values in found[0].unbind(dim=-1):
            zeros = torch.zeros(action_mask.shape, device=sequences.device)
            where = nn.functional.pad(actions, (0, action_mask.shape[1] - actions.shape[1]))
            padded.append(zeros.masked_scatter(where, values))
        return padded[0], padded[1], self._aux_loss(output)

    def _aux_loss(self, output: ModelOutput) -> Tensor | float:
        return output.aux_loss if self.router_loss and output.get("aux_loss") is not None else 0

    def _attend_with(self, attention: str) -> None:
        """It stays so until the next call: gradient checkpointing runs the layers again in the backward pass."""
        if self.config._attn_implementation != attention and can_choose_attention(self.model):
            unwrapped(self.model).set_attn_implementation(attention)
        if self.family.longest_alike < math.inf:
            reset_dynamic_rope(self.model)


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Transformers' model in DeepSpeed's engine and in PEFT's model of adapters."""
    return next(each for each in model.modules() if isinstance(each, PreTrainedModel))


def can_choose_attention(model: nn.Module) -> bool:
    """Whether its layers ask Transformers' AttentionInterface, or have their own attention."""
    return unwrapped(model)._can_set_attn_implementation()


def switch_off_dropout(model: nn.Module) -> None:
    """The policy that is trained is the one that generated. An adapter's own dropout, `--ds.lora.dropout`, stays."""
    for path, module in model.named_modules():
        if ADAPTER_DROPOUT in path:
            continue
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if any(part in name for part in DROPOUT) and isinstance(value, float):
                setattr(module, name, 0.0)
