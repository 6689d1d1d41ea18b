"""`--critic.freezing_steps`: steps that train the critic alone."""

from types import SimpleNamespace

import pytest
import ray

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.metrics import one_line, step_record
from openrlhf_math.grpo.trainer import MathTrainer
from openrlhf_math.grpo.update.bad_steps import BadSteps
from openrlhf_math.grpo.update.policy_actor import MathPolicyActor
from openrlhf_math.training.flag_checks import check_frozen_steps

REST = {"reward": 0.5, "response_length": 7.0, "truncated": 0.0, "zero_advantage_rate": 0.0, "timing/step_total": 1.0}


class Group:
    """Actors that answer at once: what they are asked, and what they have not trained on."""

    def __init__(self, **answers) -> None:
        self.answers, self.asked = answers, []

    def async_run_method(self, method_name, **arguments):
        self.asked.append(method_name)
        return [self.answers[method_name]]


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setattr(ray, "get", lambda references: references)
    made = MathTrainer.__new__(MathTrainer)
    made.args = SimpleNamespace(critic=SimpleNamespace(freezing_steps=1), ds=SimpleNamespace(enable_sleep=False))
    made.engines = SimpleNamespace(version=0)
    made.kl_ctl = SimpleNamespace(value=0.0)
    made.phases = SimpleNamespace(reload=lambda: None, offload=lambda: None)
    made.critic_model_group = Group(fit={"critic_loss": 2.0})
    policy = SimpleNamespace(trainer=SimpleNamespace(replay_buffer=SimpleNamespace(items=[1, 2])))
    policy.trainer.replay_buffer.clear = policy.trainer.replay_buffer.items.clear
    made.policy = policy
    left_out = MathPolicyActor.leave_out_batch(policy)
    made.actor_model_group = Group(
        fit={"policy_loss": 0.3, "actor_grad_norm": 1.5, "skipped_steps": 0.0}, leave_out_batch=left_out
    )
    return made


def test_policy_trains_from_the_third_step(trainer):
    statuses = [trainer.ppo_train(step) for step in range(4)]
    assert trainer.actor_model_group.asked == ["leave_out_batch", "leave_out_batch", "fit", "fit"]
    assert trainer.critic_model_group.asked == ["fit"] * 4
    assert [status["policy_loss"] for status in statuses] == [0.0, 0.0, 0.3, 0.3]
    assert all(status["critic_loss"] == 2.0 for status in statuses)
    assert trainer.engines.version == 4, "a step counts, whoever was trained"


def test_frozen_step_batch_is_not_kept(trainer):
    assert trainer.policy.trainer.replay_buffer.items == []


def test_frozen_step_is_recorded_and_is_not_an_error(trainer, tmp_path):
    record = step_record(1, trainer.ppo_train(0) | REST, 3.0)
    assert (record["policy_loss"], record["grad_norm"]) == (0.0, 0.0)
    assert record["step"] == 1 and "step 1/4" in one_line(record, 4)
    BadSteps(1, tmp_path).observe(record, [])
    assert "skipped_steps" not in record  # so that it does not count as trained


@pytest.mark.parametrize(("frozen", "batches", "trains"), [(-1, 1, True), (0, 1, False), (0, 2, True), (3, 4, False)])
def test_never_trained_policy_is_refused(frozen, batches, trains):
    if trains:
        assert check_frozen_steps(frozen, batches) is None
        return
    with pytest.raises(UserError, match=f"--critic.freezing_steps {frozen}"):
        check_frozen_steps(frozen, batches)
