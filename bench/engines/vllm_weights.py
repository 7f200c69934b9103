"""Weights into vLLM's model and back out of it, under the names they have in Hugging Face format.

The functions that take a ``worker`` are run by vLLM on its worker, whose model they reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def keep_unpacked() -> None:
    """Have vLLM compute with plain weight matrices on a CPU; call it before the model is loaded.

    It would repack them for oneDNN and let go of what was loaded: nobody could then read back what
    it computes with. At the sizes that a CPU serves, the repacked ones were no faster.
    """
    import vllm._custom_ops

    vllm._custom_ops._supports_onednn = False


def forget_rendezvous(worker: Any) -> None:
    """Remove the file by which several processes would meet: a worker killed would leave it."""
    Path(worker.distributed_init_method.removeprefix("file://")).unlink(missing_ok=True)


def reload(worker: Any, state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Overwrite the model's weights in place, by vLLM's own loading code."""
    # Not model.load_weights alone: loaders expect weights as they were before post-processing.
    worker.model_runner.reload_weights(
        weights_iterator=((name, value.to(dtype)) for name, value in state.items())
    )


def live(worker: Any, layout: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Return the weights that the model computes with, as the checkpoint had them.

    vLLM pads vocabularies and stacks the projections that read the same input; undone here.

    Args:
        worker: vLLM's.
        layout: names and shapes of the tensors to return.

    Raises:
        KeyError: a tensor cannot be told apart in vLLM's model.
    """
    model = worker.model_runner.get_model()
    held: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    stacks: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", {})

    def find(name: str) -> Tensor:
        shape = layout[name]
        known = name if mapper is None else mapper.map_name(name) or ""  # None: not loaded
        inner, offset = unstack(name, known)
        if inner not in held:
            raise KeyError(f"{name} is nowhere in vLLM's model: its weights cannot be checked")
        return held[inner].detach()[offset : offset + shape[0]].view(shape)

    def unstack(name: str, inner: str) -> tuple[str, int]:
        """Return the parameter that holds a tensor and the row where the tensor starts."""
        for stack, parts in stacks.items():
            for at, part in enumerate(parts):
                # The mapper may have renamed it already, which then changes nothing.
                stacked = inner.replace(f".{part}.", f".{stack}.")
                if f".{part}." in name and stacked in held:
                    before = [name.replace(f".{part}.", f".{other}.") for other in parts[:at]]
                    return stacked, sum(layout[other][0] for other in before)
        return inner, 0

    return {name: find(name) for name in layout}
