"""One rollout batch through the product: experience maker, balancing, replay buffer and training steps of each rank."""

from types import SimpleNamespace

import torch
from naive_loss import VOCABULARY, BigramActor, Completion, bigram_table
from openrlhf.trainer.ppo_utils.experience import Experience, balance_experiences
from openrlhf.trainer.ray import ppo_actor
from openrlhf.utils.deepspeed import DeepspeedStrategy
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.settings import resolve
from openrlhf_math.grpo.update.experience import MathExperienceMaker
from openrlhf_math.grpo.update.micro_batches import balance_groups
from openrlhf_math.grpo.update.policy_actor import MathActorTrainer
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.log_prob_head import LogitTransform, LogProbHead
from openrlhf_math.modeling.packed_actor import PackedActor

MINIMAL = (
    "--actor.model_name_or_path",
    "some/model-1.5B",
    "--data.prompt_dataset",
    "some/data",
    "--math.device",
    "cpu",
)


def settings(*flags: str) -> SimpleNamespace:
    return resolve(build_parser("grpo").parse_args([*MINIMAL, *map(str, flags)]))


def rolled_out(completions: list[Completion], args: SimpleNamespace) -> list[Experience]:
    """As after the rollout and the passes of policy and reference (or teacher), one completion each."""
    items = []
    for number, one in enumerate(completions):
        sequence = torch.tensor(one.prompt + one.tokens)
        mask = torch.zeros(1, len(sequence) - 1, dtype=torch.long)
        mask[:, len(one.prompt) - 1 :] = torch.tensor(one.own or [True] * len(one.tokens))

        def actions(values, mask=mask):
            row = torch.zeros(mask.shape)
            row[mask == 1] = values
            return row

        items.append(
            Experience(
                sequences=sequence[None],
                attention_mask=torch.ones_like(sequence)[None],
                action_mask=mask,
                action_log_probs=actions(one.old),
                base_action_log_probs=actions(one.reference) if args.algo.kl.use_loss or args.math.teacher else None,
                rollout_log_probs=actions(one.old if one.rollout is None else one.rollout),
                kl=torch.zeros(mask.shape),
                rewards=torch.tensor([one.reward]),
                response_length=torch.tensor([len(one.tokens)]),
                truncated=torch.tensor([one.truncated]),
                total_length=torch.tensor([float(len(sequence))]),
                index=[number],
                info={"reward": torch.tensor([one.reward])},
            )
        )
    return items


def experiences(completions: list[Completion], args: SimpleNamespace) -> list[Experience]:
    """In batches of 3, with advantages."""
    items = rolled_out(completions, args)
    batches = [Experience.concat_experiences(items[start : start + 3], 0) for start in range(0, len(items), 3)]
    maker = object.__new__(MathExperienceMaker)
    maker.args, maker.strategy = args, SimpleNamespace(args=args)
    maker.advantage_estimator, maker.kl_ctl = args.algo.advantage.estimator, SimpleNamespace(value=0.0)
    return maker.compute_advantages_and_returns(batches)


class Strategy(DeepspeedStrategy):
    """OpenRLHF's, with gradients that are kept instead of stepped along. accumulated_gradient: micro-batches a step."""

    def __init__(self, args, world_size: int) -> None:
        self.args, self.world_size = args, world_size
        self.ds_device_mesh = {"dp": SimpleNamespace(get_group=lambda: None)}
        dynamic = args.train.dynamic_batch_enable
        share = args.train.batch_size // world_size
        self.accumulated_gradient = 1 if dynamic else share // args.train.micro_batch_size
        self.gradients: list[dict[str, torch.Tensor]] = []
        self._calls = 0

    ring_attn_group = None

    def is_rank_0(self) -> bool:
        return False

    def backward(self, loss, actor, _optimizer) -> None:
        (loss / self.accumulated_gradient).backward()

    def optimizer_step(self, _optimizer, actor, scheduler, **_kwargs) -> None:
        self._calls += 1
        if self._calls % self.accumulated_gradient == 0:
            parameters = dict(actor.named_parameters())
            self.gradients.append({name: each.grad.clone() for name, each in parameters.items()})
            actor.zero_grad()
            scheduler.steps += 1

    def get_grad_norm(self, _actor) -> float:
        return 0.0


class Scheduler:
    """The learning rate is the number of steps before."""

    steps = 0

    def get_last_lr(self) -> list[float]:
        return [float(self.steps)]


def train(completions, args, ranks, monkeypatch, actor=lambda: BigramActor(bigram_table()), batches=1):
    """One pass over a batch, or over the same one several times.

    Returns the gradients of each optimizer step by parameter, averaged over ranks as DeepSpeed does; the metrics of the
    last pass by rank and of all of rank 0; the actors; and the completions of each step and rank, [step][rank].
    """
    monkeypatch.setattr(ppo_actor, "torch_dist_barrier_and_cuda_sync", lambda: None)
    rolled = experiences(completions, args)
    dynamic = args.train.dynamic_batch_enable  # else any split will do
    shares = balance_groups(rolled, args, seed=0) if dynamic else balance_experiences(rolled, args)
    by_tokens = {tuple(one.prompt + one.tokens): one for one in completions}
    actors = [actor() for _ in range(ranks.count)]

    def work(rank: int):
        strategy = Strategy(args, ranks.count)
        scheduler = Scheduler()
        trainer = MathActorTrainer(
            strategy, actors[rank], None, None, scheduler, micro_train_batch_size=args.train.micro_batch_size,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer.replay_buffer.append(shares[rank])
        items = [by_tokens[tuple(item.sequences.tolist())] for item in trainer.replay_buffer.items]
        coefficient = 0.0 if args.algo.kl.init_coef == 0 else args.algo.kl.init_coef
        statuses = [trainer.ppo_train(coefficient) for _ in range(batches)]
        return strategy.gradients, statuses, items

    results = ranks.run(work)
    gradients = [
        {name: torch.stack([rank[name] for rank in step]).mean(0) for name in step[0]}
        for step in zip(*(result[0] for result in results), strict=True)
    ]
    share = args.train.batch_size // ranks.count
    steps = [[items[start : start + share] for _, _, items in results] for start in range(0, len(results[0][2]), share)]
    every = [result[1] for result in results]
    return SimpleNamespace(
        gradients=gradients, statuses=[one[-1] for one in every], all_statuses=every[0], actors=actors, steps=steps
    )


class Transformer(torch.nn.Module):
    """A tiny Qwen2 behind the product's packed actor, a group behind one copy of its prompt.

    `log_probs_of` runs the same model one sequence at a time.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        config = Qwen2Config(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=1, attn_implementation="eager")  # fmt: skip
        self.language_model = Qwen2ForCausalLM(config)
        self.model = SimpleNamespace(skipped_steps=0)
        self.packed = [PackedActor(self.language_model, SHARED_PREFIX)]  # in a list: it is not a module of this one
        # What `choose_path` finds, which asks all processes: they are not there yet.
        self.packed[0].log_prob_head, self.packed[0].path_is_chosen = LogProbHead(LogitTransform(), 1.0), True
        self.path, self.balance_routers, self.choose_path = "shared", self.packed[0].balance_routers, lambda: None

    def forward(self, *args, **kwargs):
        return self.packed[0](*args, **kwargs)

    def log_probs_of(self, one: Completion) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability and entropy at each token of a completion."""
        self.language_model.set_attn_implementation("eager")
        sequence = torch.tensor([one.prompt + one.tokens])
        log_p = self.language_model(sequence).logits[0, len(one.prompt) - 1 : -1].log_softmax(-1)
        return log_p[range(len(one.tokens)), one.tokens], -(log_p.exp() * log_p).sum(-1)
