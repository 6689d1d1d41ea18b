"""Buckets, the source of weights, and both ends of the shared-memory transfer, in one process and without engines."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch
from transformers import Qwen2Config
from vllm.distributed.weight_transfer.base import ParamMeta
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory

from openrlhf_math.colocation import weight_source
from openrlhf_math.colocation.layout import (
    CPU_CACHE_BYTES,
    cache_bytes,
    engine_arguments,
    transfer_backend,
    worker_environment,
)
from openrlhf_math.colocation.shared_memory import (
    ALIGNMENT,
    DIRECTORY,
    SharedMemoryTrainerInitInfo,
    plan_buckets,
    segments_for,
    weights_in,
)
from openrlhf_math.colocation.weight_source import DeepSpeedSource
from openrlhf_math.colocation.weight_transfer import EnginesClient, init_info

METADATA = [
    ParamMeta("embed", torch.bfloat16, (10, 7)),  # 140 bytes
    ParamMeta("scale", torch.float32, ()),
    ParamMeta("bias", torch.float32, (3,)),
    ParamMeta("head", torch.bfloat16, (500,)),  # 1000 bytes
    ParamMeta("norm", torch.bfloat16, (4,)),
]


@pytest.mark.parametrize(
    ("bucket_bytes", "names"),
    [
        (1, [["embed"], ["scale"], ["bias"], ["head"], ["norm"]]),
        (256, [["embed", "scale"], ["bias"], ["head"], ["norm"]]),  # a parameter begins at a multiple of 64
        (300, [["embed", "scale", "bias"], ["head"], ["norm"]]),
        (10_000, [["embed", "scale", "bias", "head", "norm"]]),
    ],
)
def test_buckets_are_ordered_and_large_parameters_are_alone(bucket_bytes, names):
    buckets = plan_buckets(METADATA, bucket_bytes)
    assert [[slot.name for slot in bucket.slots] for bucket in buckets] == names
    for bucket in buckets:
        assert len(bucket.slots) == 1 or bucket.slots[-1].offset + bucket.slots[-1].size <= bucket_bytes
        assert all(slot.offset % ALIGNMENT == 0 for slot in bucket.slots)


def test_views_of_a_bucket_do_not_overlap():
    (bucket,) = plan_buckets(METADATA, 10_000)
    memory = torch.zeros(bucket.size, dtype=torch.uint8)
    for number, slot in enumerate(bucket.slots):
        slot.view(memory).fill_(number)
    for number, (slot, parameter) in enumerate(zip(bucket.slots, METADATA, strict=True)):
        view = slot.view(memory)
        assert (view.shape, view.dtype) == (parameter.shape, parameter.dtype)
        assert (view == number).all()


def test_no_parameters_no_buckets():
    assert plan_buckets([], 100) == []


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4, dtype=torch.bfloat16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4, dtype=torch.bfloat16) for _ in range(3))
        self.head = torch.nn.Linear(4, 10, bias=False, dtype=torch.bfloat16)
        self.head.weight = self.embed.weight


def test_source_yields_parameters_and_tied_ones_once():
    module = Tied()
    source = DeepSpeedSource(module, zero_stage=2, bucket_bytes=50)
    weights = dict(source)
    assert "embed.weight" in weights
    assert "head.weight" not in weights
    assert [(each.name, each.shape) for each in source.metadata()] == [(n, tuple(w.shape)) for n, w in weights.items()]
    for name, parameter in module.named_parameters():
        assert weights[name].data_ptr() == parameter.data_ptr()
        assert not weights[name].requires_grad


@pytest.fixture
def gathered(monkeypatch) -> list[list[int]]:
    """DeepSpeed's gathering of sharded parameters: empty outside, whole inside. Lists the sizes gathered together."""
    together = []

    @contextmanager
    def gather(parameters, enabled):
        assert enabled
        together.append([parameter.whole.numel() for parameter in parameters])
        for parameter in parameters:
            parameter.data = parameter.whole
        yield
        for parameter in parameters:
            parameter.data = torch.empty(0, dtype=parameter.dtype)

    monkeypatch.setattr(weight_source.deepspeed.zero, "GatheredParameters", gather)
    return together


def test_sharded_parameters_are_gathered_by_bucket(gathered):
    module, original = Tied(), Tied()
    module.load_state_dict(original.state_dict())
    for parameter in module.parameters():
        parameter.whole, parameter.ds_shape = parameter.data.clone(), parameter.shape
        parameter.data = torch.empty(0, dtype=parameter.dtype)
    source = DeepSpeedSource(module, zero_stage=3, bucket_bytes=160)
    assert [each.shape for each in source.metadata()] == [tuple(p.shape) for p in original.parameters()]
    assert gathered == []
    weights = dict(source)
    assert gathered == [[40, 16], [4, 16, 4], [16, 4]]
    for name, parameter in original.named_parameters():
        assert torch.equal(weights[name], parameter)
    assert all(parameter.numel() == 0 for parameter in module.parameters())


class Receiver:
    """A client that maps the segments as an engine's worker does, and copies what has arrived."""

    def __init__(self) -> None:
        self.calls, self.received = [], {}

    def init_weight_transfer_engine(self, init_info: dict) -> None:
        self.buckets = [weights_in(segment) for segment in init_info["segments"]]

    def start_weight_update(self) -> None:
        self.calls.append("start")

    def update_weights(self, update_info: dict) -> None:
        self.calls.append(update_info["bucket"])
        self.received |= {name: view.clone() for name, view in self.buckets[update_info["bucket"]]}

    def finish_weight_update(self) -> None:
        self.calls.append("finish")


def trainer_engine(module, client, rank=0, bucket_bytes=100):
    source = DeepSpeedSource(module, zero_stage=2, bucket_bytes=bucket_bytes)
    settings = SharedMemoryTrainerInitInfo(rank=rank, bucket_bytes=bucket_bytes)
    return WeightTransferTrainerFactory.trainer_init(settings, client=client, source=source)


def test_repeated_updates_arrive_and_leave_no_file():
    module, client = Tied(), Receiver()
    before = set(Path(DIRECTORY).iterdir())
    engine = trainer_engine(module, client)
    assert set(Path(DIRECTORY).iterdir()) == before
    for _ in range(2):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_()
        engine.send_weights()
        assert all(torch.equal(client.received[name], parameter) for name, parameter in module.named_parameters())
    assert client.calls == ["start", 0, 1, 2, 3, "finish"] * 2


def test_other_ranks_read_the_source_without_engine_calls(gathered):
    module = Tied()
    for parameter in module.parameters():
        parameter.whole, parameter.ds_shape = parameter.data.clone(), parameter.shape
    source = DeepSpeedSource(module, zero_stage=3, bucket_bytes=100)
    settings = SharedMemoryTrainerInitInfo(rank=1, bucket_bytes=100)
    WeightTransferTrainerFactory.trainer_init(settings, client=None, source=source).send_weights()
    assert sum(map(len, gathered)) == 7


def test_source_that_yields_extra_weights_is_refused():
    module, client = Tied(), Receiver()
    engine = trainer_engine(module, client)
    engine.source = [*engine.source, ("more", torch.zeros(1))]
    with pytest.raises(RuntimeError, match="yields more, which its metadata does not name"):
        engine.send_weights()
    assert "finish" not in client.calls


def test_engine_on_another_machine_is_refused():
    with segments_for(plan_buckets(METADATA, 1000)) as segments:
        pass
    with pytest.raises(RuntimeError, match="must run on the machine of the policy's first process"):
        weights_in(segments[0])


def test_small_shared_memory_is_an_error_and_leaves_no_file():
    before = set(Path(DIRECTORY).iterdir())
    huge = [ParamMeta("small", torch.bfloat16, (8,)), ParamMeta("huge", torch.bfloat16, (2**50,))]
    with pytest.raises(OSError), segments_for(plan_buckets(huge, 16)):  # noqa: PT011  the kernel's words
        pass
    assert set(Path(DIRECTORY).iterdir()) == before


@pytest.mark.parametrize(
    ("device", "colocated", "backend"),
    [("cpu", True, "shared_memory"), ("cpu", False, "shared_memory"), ("cuda", True, "ipc"), ("cuda", False, "nccl")],
)
def test_each_placement_has_its_backend_and_both_ends_are_registered(device, colocated, backend):
    assert transfer_backend(device, colocated) == backend
    assert engine_arguments(device, colocated)["weight_transfer_config"] == {"backend": backend}
    assert backend in WeightTransferEngineFactory._registry
    assert backend in WeightTransferTrainerFactory._registry


@pytest.mark.parametrize(
    ("bucket_bytes", "buffer"),
    [(100, 1000), (1100, 1100), (10_000, 140 + 4 + 12 + 1000 + 8)],
    ids=["the largest parameter", "as asked", "no more than there is"],
)
def test_cuda_ipc_buffer_holds_every_parameter(bucket_bytes, buffer):
    info = init_info("ipc", 0, METADATA, workers=1, bucket_bytes=bucket_bytes)
    assert (info.packed, info.packed_buffer_size_bytes) == (True, buffer)


def test_nccl_group_gives_trainer_and_workers_distinct_ranks(monkeypatch):
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    info = init_info("nccl", 0, METADATA, workers=6, bucket_bytes=10_000)
    assert (info.master_address, info.world_size, info.packed) == ("10.0.0.1", 7, True)

    monkeypatch.setattr(ray, "get", lambda references: references)
    result = []
    remote = SimpleNamespace(remote=lambda request: result.append(request.init_info))
    engines = [SimpleNamespace(init_weight_transfer_engine=remote) for _ in range(3)]
    EnginesClient(engines, workers_each=2, prefix_caching=False).init_weight_transfer_engine({"rank_offset": 1})
    assert [each["rank_offset"] for each in result] == [1, 3, 5]


@pytest.mark.parametrize("caching", [True, False])
def test_prefixes_of_old_weights_are_dropped(monkeypatch, caching):
    monkeypatch.setattr(ray, "get", lambda references: references)
    calls = []

    def method(name):
        return SimpleNamespace(remote=lambda: calls.append(name))

    engine = SimpleNamespace(finish_weight_update=method("finish"), reset_prefix_cache=method("reset"))
    EnginesClient([engine], workers_each=1, prefix_caching=caching).finish_weight_update()
    assert calls == (["finish", "reset"] if caching else ["finish"])


@pytest.mark.parametrize(
    ("sequences", "context", "tokens"),
    [(8, 100, 8 * 128 + 64), (1, 32, 32 + 64), (10**9, 64, None)],
    ids=["whole blocks", "one", "no more than the limit"],
)
def test_cpu_engine_cache_fits_the_rollout(tmp_path, sequences, context, tokens):
    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    Qwen2Config(**shape).save_pretrained(tmp_path)
    token = 2 * 3 * 2 * 16 * 2  # key and value, layers, heads, size, bytes
    expected = tokens * token if tokens else CPU_CACHE_BYTES + 64 * token
    assert cache_bytes(str(tmp_path), sequences, context) == expected


@pytest.mark.parametrize(("wanted", "sent"), [(None, False), ("0", True), ("1", False)])
def test_vllm_sends_usage_statistics_only_where_the_user_lets_it(monkeypatch, wanted, sent):
    from vllm.usage import usage_lib

    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    if wanted:
        monkeypatch.setenv("VLLM_NO_USAGE_STATS", wanted)
    for name, value in worker_environment("cpu", 0).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(usage_lib, "_USAGE_STATS_ENABLED", None)
    assert usage_lib.is_usage_stats_enabled() is sent
