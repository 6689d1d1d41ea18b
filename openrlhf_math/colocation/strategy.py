"""OpenRLHF's DeepSpeed strategy, with checkpoints that a kill cannot tear and nothing to compile on the CPU."""

import math
import shutil
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from openrlhf.models import Actor
from openrlhf.utils.deepspeed import DeepspeedStrategy
from peft import PeftModel
from torch import distributed, nn

from openrlhf_math.checkpoints.folder import (
    UNFINISHED,
    CheckpointError,
    Entries,
    clear_unfinished,
    commit,
    files_of,
    make_room,
    seal,
    write_manifest,
)
from openrlhf_math.checkpoints.state import PlainCheckpointEngine, load_plain, random_state, restore_random_state
from openrlhf_math.colocation.layout import HeapTrimmer
from openrlhf_math.colocation.weight_source import save_merged
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import first_line
from openrlhf_math.patches.patch import substituted

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

FULL = 2**20  # bytes free of a disk that a write has failed on


class MathStrategy(DeepspeedStrategy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trim_heap = HeapTrimmer()

    def print(self, *message: object) -> None:
        """Only on request: OpenRLHF prints all arguments and the whole model."""
        if getattr(self.args.math, "verbose", True):
            super().print(*message)

    def setup_distributed(self, *args: Any, **kwargs: Any) -> None:
        # DeepSpeed would compile its own all-reduce for inference on the CPU, a minute the first time; training's
        # collectives are Gloo's.
        backend = import_module("deepspeed.comm.torch")  # as an attribute, deepspeed.comm.torch is PyTorch
        with substituted(backend, build_shm_op=lambda: None):
            super().setup_distributed(*args, **kwargs)
        if distributed.get_backend() == "gloo":
            _wait_for_every_gather()

    def get_ds_train_config(self, *args: Any, **kwargs: Any) -> dict:
        config = super().get_ds_train_config(*args, **kwargs)
        if get_accelerator().device_name() == "cpu" and config.get("optimizer", {}).get("type") == "AdamW":
            # DeepSpeed would compile its own AdamW with g++ first, which takes longer than a short run. PyTorch's fused
            # one needs no temporaries as large as the model.
            config["optimizer"]["params"] |= {"torch_adam": True, "fused": True}
        if self.use_dynamic_batch and self.stage in (1, 2):
            # The trainer knows the last micro-batch of a step. DeepSpeed 0.19.6 would take each for the last and keep
            # its gradient alone; the other stages add them up.
            config["managed_gradient_accumulation"] = False
        return config

    def optimizer_step(self, optimizer: torch.optim.Optimizer, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        """As OpenRLHF's. The optimizer's temporaries do not come on top of the activations, which the heap has kept."""
        engine: Any = model.model if isinstance(model, Actor) else model
        if not engine.managed_gradient_accumulation() or engine.is_gradient_accumulation_boundary():
            self._trim_heap()
        super().optimizer_step(optimizer, model, *args, **kwargs)

    def save_ckpt(
        self,
        model: "DeepSpeedEngine",
        save_dir: str,
        tag: str,
        max_num: int = 3,
        max_mem: float = 1000,
        client_state: dict | None = None,
        **metric: Any,
    ) -> None:
        """As OpenRLHF's, but the checkpoint takes its name when it is whole and on the disk, and only then old ones go.

        Every process calls it. Raises CheckpointError if it cannot be written; those that were there still are.
        """
        folder, first = Path(save_dir), self.is_rank_0()
        unfinished = folder / UNFINISHED
        try:
            if first:
                clear_unfinished(folder)  # OpenRLHF lets all wait for the first, below
            with without_frozen(model):
                super().save_ckpt(model, unfinished, tag, math.inf, math.inf, client_state, save_latest=False, **metric)
            torch.save(random_state(), unfinished / tag / _random_file(self.get_rank()))
            distributed.barrier()
            entries = self._sealed(unfinished / tag)
            if first:
                write_manifest(unfinished / tag, entries)
                commit(folder, tag)
                make_room(folder, tag, max_num, max_mem)
            distributed.barrier()
        except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError for a write that failed
            sentence = _unwritten(folder, tag, error)
            clear_unfinished(folder)
            raise CheckpointError(sentence) from error

    def _sealed(self, checkpoint: Path) -> Entries:
        """Entries of all files; each process reads a share of them. Raises OSError where they do not see the same."""
        names, ranks = files_of(checkpoint), distributed.get_world_size()
        answers: list = [None] * ranks
        distributed.all_gather_object(answers, (names, seal(checkpoint, names[self.get_rank() :: ranks])))
        if any(seen != names for seen, _ in answers):
            raise OSError("its processes do not see each other's files: --ckpt.path must be on a disk that all share")
        return {name: entry for _, share in answers for name, entry in share.items()}

    def load_ckpt(
        self, model: "DeepSpeedEngine", load_dir: str, tag: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As OpenRLHF's, from the checkpoint that `settle` has checked; nothing in it is run. Restores random state."""
        model.checkpoint_engine = PlainCheckpointEngine(model._config)
        if isinstance(model.module, PeftModel):
            kwargs["load_module_strict"] = False  # the frozen weights are those of the base, already loaded
        path, states = super().load_ckpt(model, load_dir, tag, *args, **kwargs)
        if path is not None:
            restore_random_state(load_plain(Path(path).parent / _random_file(self.get_rank())))
        return path, states

    def save_model(self, model: nn.Module, tokenizer: Tokenizer, output_dir: str, **kwargs: Any) -> None:
        """As OpenRLHF's, but what was trained with LoRA is saved merged, with its adapters in a folder of it."""
        trained = self._unwrap_model(model)
        if not isinstance(trained, PeftModel):
            super().save_model(model, tokenizer, output_dir, **kwargs)
            return
        save_merged(trained, tokenizer, Path(output_dir), self.stage, self.is_rank_0())
        distributed.barrier()


def without_frozen(model: deepspeed.DeepSpeedEngine) -> AbstractContextManager:
    """While the block runs, a checkpoint of a LoRA model holds only what is trained.

    DeepSpeed's own `exclude_frozen_parameters` leaves the second name of a tied weight in.
    """
    if not isinstance(model.module, PeftModel):
        return nullcontext()
    trained = {name for name, each in model.module.named_parameters() if each.requires_grad}
    full_state_dict = model.module_state_dict

    def module_state_dict(*args: Any, **kwargs: Any) -> dict:
        return {name: value for name, value in full_state_dict(*args, **kwargs).items() if name in trained}

    return substituted(
        model,
        module_state_dict=module_state_dict,
        save_checkpoint=partial(model.save_checkpoint, exclude_frozen_parameters=True),
    )


def _wait_for_every_gather() -> None:
    """ZeRO-3 starts one gather a parameter and waits for the last (DeepSpeed 0.19.6, `_allgather_params_coalesced`).

    That is enough on a CUDA stream, where they end in their order. Gloo's two threads do not keep it: a step then began
    with some parameters, norms above all, as they were allocated, and its loss was wrong or NaN.
    """
    backend = deepspeed.comm.comm.cdb
    gather = backend.all_gather_into_tensor

    def gathered(*args: Any, **kwargs: Any) -> Any:
        work = gather(*args, **kwargs)
        if work is not None:
            work.wait()
        return work

    backend.all_gather_into_tensor = gathered


def _random_file(rank: int) -> str:
    return f"random_state_rank{rank}.pt"


def _unwritten(folder: Path, tag: str, error: Exception) -> str:
    """The sentence for it. PyTorch has another sentence for a full disk."""
    full = folder.exists() and shutil.disk_usage(folder).free < FULL
    reason = "the disk is full" if full else first_line(error)
    return f"checkpoint {tag} could not be written to {folder} ({reason}); those before are whole"
