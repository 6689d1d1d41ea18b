"""Scorers read what the models' cards read: against transformers' own classes, and the published ways of writing.

The models are tiny, with random weights. What is expected is written here from the cards, not with the kinds' code.
"""

import math
from types import SimpleNamespace

import pytest
import tiny_scorers
import torch
from transformers import Qwen2Config, Qwen2ForSequenceClassification, Qwen2ForTokenClassification

from openrlhf_math.rerank.aggregate import Logit, aggregate, last, probabilities
from openrlhf_math.rerank.choose import RULES
from openrlhf_math.rerank.scorers import SCORERS

PROBLEM = "Leo has 9 pens. Leo loses 3. How many pens?"
SOLUTIONS = ["9-3=6.\n\nSo 6", "9-3=7.", "\nLeo has no pens.\n\n\nSo\n\\boxed{7}\n", "6", "\n\n9 pens", "a" * 90]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1}  # fmt: skip


def tiny(kind: str, cls: type, labels: int, padding: str):
    """A kind over a tiny model of the class, its tokenizer and the model. padding: which token pads."""
    tokenizer = tiny_scorers.build_tokenizer(kind)
    pad = {"none": None, "own": tokenizer.pad_token_id, "end": tokenizer.eos_token_id,
           "newline": tokenizer("\n")["input_ids"][0]}[padding]  # fmt: skip
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=len(tokenizer), num_labels=labels, pad_token_id=pad, **SMALL)
    model = cls(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    config.architectures = [cls.__name__]
    return SCORERS[kind](tokenizer, config), tokenizer, model


@torch.no_grad()
def at_all_tokens(model, ids: list[int]) -> torch.Tensor:
    """Logits [tokens, labels]: what an engine computes."""
    return model.score(model.model(torch.tensor([ids])).last_hidden_state)[0]


@pytest.mark.parametrize("padding", ["none", "own", "end", "newline"])
def test_sequence_classifier_matches_its_model_class(padding):
    kind, tokenizer, model = tiny("reward-model", Qwen2ForSequenceClassification, 1, padding)
    ours, cards, at_end = [], [], []
    for solution in SOLUTIONS:
        encoded = kind.encode(PROBLEM, [solution])
        rows = at_all_tokens(model, encoded.ids)
        ours.append(kind.read(rows[encoded.read[0]].tolist()))
        turns = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": solution}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        with torch.no_grad():
            cards.append(model(**tokenizer(text, return_tensors="pt")).logits[0][0].item())
        ids = tokenizer(text)["input_ids"]
        at_end.append(at_all_tokens(model, ids)[-2].item())  # at <|im_end|>, before the line's end
    assert ours == pytest.approx(cards, abs=1e-4)
    assert (at_end == pytest.approx(cards, abs=1e-4)) == (padding == "newline")  # the place matters


@torch.no_grad()
def test_qwen_math_reward_model_is_read_after_its_cards_chat():
    tokenizer = tiny_scorers.build_tokenizer("reward-model")
    kind = SCORERS["reward-model"](tokenizer, SimpleNamespace(architectures=["Qwen2ForRewardModel"]))
    card = (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\n" + PROBLEM + "<|im_end|>\n<|im_start|>assistant\nSo 6<|im_end|>\n"
    )
    encoded = kind.encode(PROBLEM, ["So 6"])
    assert encoded.ids == tokenizer(card, add_special_tokens=False)["input_ids"]
    assert encoded.read == [len(encoded.ids) - 1] and kind.engine_arguments() == {}


def test_internlm_reward_model_is_read_at_its_reward_token():
    tokenizer = tiny_scorers.build_tokenizer("reward-model")
    config = SimpleNamespace(architectures=["InternLM2ForRewardModel"], reward_token_id=7)
    encoded = SCORERS["reward-model"](tokenizer, config).encode(PROBLEM, ["So 6"])
    turns = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": "So 6"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert encoded.ids == [*tokenizer(text, add_special_tokens=False)["input_ids"], 7]
    assert encoded.read == [len(encoded.ids) - 1]


def published_skywork(problem: str, response: str, tokenizer) -> tuple[list[int], list[int]]:
    """Tokens, and 1 where a reward is read: the published `prepare_input`, in other words."""
    ids = tokenizer.encode(tokenizer.bos_token + problem + "\n")
    flags = [0] * len(ids)
    newline = tokenizer.encode("\n")[-1]
    for line in response.split("\n"):
        step = tokenizer.encode(line) if line else []
        ids, flags = ids + step + [newline], flags + [0] * len(step) + [1]
    return ids, flags


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_skywork_steps_match_its_published_code(solution):
    tokenizer = tiny_scorers.build_tokenizer("skywork-o1-prm")
    kind = SCORERS["skywork-o1-prm"](tokenizer, SimpleNamespace(architectures=["Qwen2ForPrmModel"]))
    encoded = kind.encode(PROBLEM, kind.split(solution))
    ids, flags = published_skywork(PROBLEM, solution, tokenizer)
    assert encoded.ids == ids
    assert encoded.read == [place for place, flag in enumerate(flags) if flag]


@pytest.mark.parametrize("first", [None, "<|endoftext|>"])
def test_token_classifier_reads_what_trl_trains(first):
    kind, tokenizer, model = tiny("trl-prm", Qwen2ForTokenClassification, 2, "own")
    tokenizer.bos_token = first
    steps = ["Leo has 9 pens.", "9-3=6.", "So \\boxed{6}"]
    encoded = kind.encode(PROBLEM, steps)
    # PRMTrainer.tokenize_row: labels stand at the last token of each step with its separator
    begin = tokenizer(PROBLEM, add_special_tokens=False)["input_ids"]
    begin = begin if first is None else [tokenizer.bos_token_id, *begin]
    pieces = [tokenizer(step, add_special_tokens=False)["input_ids"] + tokenizer("\n")["input_ids"] for step in steps]
    assert encoded.ids == sum(pieces, begin)
    ends = [len(sum(pieces[: number + 1], begin)) - 1 for number in range(len(pieces))]
    with torch.no_grad():
        expected = model(torch.tensor([encoded.ids])).logits[0].softmax(-1)[ends, 1].tolist()
        rows = model.score(model.model(torch.tensor([encoded.ids])).last_hidden_state)[0]
    assert [kind.read(rows[place].tolist()) for place in encoded.read] == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-3


def test_other_than_two_label_causal_classifiers_are_refused():
    tokenizer = tiny_scorers.build_tokenizer("trl-prm")
    for config in (
        SimpleNamespace(architectures=["Qwen2ForCausalLM"], model_type="qwen2"),
        SimpleNamespace(architectures=["Qwen2ForTokenClassification"], model_type="qwen2", num_labels=3),
        SimpleNamespace(architectures=["BertForTokenClassification"], model_type="bert", num_labels=2),
    ):
        with pytest.raises(ValueError):
            SCORERS["trl-prm"](tokenizer, config)
    with pytest.raises(ValueError):
        config = SimpleNamespace(architectures=["Qwen2ForSequenceClassification"], num_labels=2)
        SCORERS["reward-model"](tokenizer, config)


def test_logit_between_0_and_1_is_not_a_probability():
    kind, _, _ = tiny("reward-model", Qwen2ForSequenceClassification, 1, "own")
    logits = [kind.read([value]) for value in (0.9, 0.2, 0.2)]
    assert logits == [0.9, 0.2, 0.2] and not probabilities(logits)
    scores, _ = aggregate([*logits, None], last)
    assert scores == [0.9, 0.2, 0.2, 0.2] and not probabilities(scores)  # none is below the lowest
    # Summed as probabilities, 0.9 would outweigh 0.4. As logits, e^0.9 = 2.46 against 2 e^0.2 = 2.44: nearly even.
    shifted = [Logit(value - 5) for value in (0.9, 0.2, 0.2)]
    for rule in (RULES["weighted"], RULES["best_of_n"]):
        assert rule([0, 1, 1], scores[:3]) == rule([0, 1, 1], shifted)  # a shift of logits says nothing
    assert math.isnan(kind.read([math.nan]))
    assert aggregate([0.9, 0.2], last)[0] == [0.9, 0.2] and probabilities([0.9, 0.2])
