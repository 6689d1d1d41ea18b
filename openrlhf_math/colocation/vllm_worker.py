"""What our side needs inside vLLM's worker processes. vLLM mixes this class into its worker."""

import openrlhf_math.patches
from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap


class WorkerExtension(WorkerWrap):
    """OpenRLHF's weight updates for CUDA, and ours through shared memory for the CPU."""

    def load_weights_from_shared_memory(self, path: str) -> None:
        """Replace all weights by those of a safetensors file, Hugging Face parameter names.

        vLLM's CPU backend packs linear weights and frees the originals, so `load_weights` cannot be used.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            self.model_runner.reload_weights(weights_iterator=((name, file.get_tensor(name)) for name in file.keys()))
        repack_tied_head(self.model_runner.model)

    def patches_applied(self) -> dict[str, bool]:
        return openrlhf_math.patches.applied()


def repack_tied_head(model) -> None:
    """Refresh vLLM's packed copy of a tied output head, which `reload_weights` leaves as it was.

    Without this, rollouts come from new layers under an old head.
    """
    if not getattr(model.config, "tie_word_embeddings", False):
        return
    head = model.lm_head
    head.quant_method.process_weights_after_loading(head)
