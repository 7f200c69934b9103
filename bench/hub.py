"""Data sets and models by hub id, or from a local directory of the same layout.

A hub directory holds one folder ``<owner>/<name>`` per repository, with the repository's own files:
for a data set ``<split>-*.parquet`` in a folder such as ``data``, for a model ``config.json`` and
its weights. Where files are is no part of what a run computes, so the directory is no part of any
configuration or hash: it is an environment variable, which worker processes inherit.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError

HUB_DIR = "ASYNC_RLHF_HUB_DIR"  # the environment variable; unset or empty: the hub
NAMED_TENSORS = 3  # that a message names at most


def use_hub_dir(directory: Path) -> None:
    """Make this process, and those that it starts, read from a hub directory and never download.

    Raises:
        UserError: there is no such directory.
    """
    os.environ[HUB_DIR] = str(directory.absolute())
    hub_dir()


def hub_dir() -> Path | None:
    """Return the hub directory in use, or None for the hub itself.

    Raises:
        UserError: there is no such directory.
    """
    value = os.environ.get(HUB_DIR)
    if not value:
        return None
    if not Path(value).is_dir():
        raise UserError(
            f"hub directory {value}: no such directory; allowed are a directory of folders "
            "<owner>/<name>, or none, to download"
        )
    return Path(value)


def resolve_hub(name: str, holds: str = "config.json") -> str:
    """Return what ``from_pretrained`` takes: the folder of ``name``, or its hub id.

    Args:
        name: a hub id, ``<owner>/<name>``.
        holds: a file, or a glob pattern of files, that the folder must have.

    Raises:
        UserError: there is a hub directory in use, and it lacks the files.
    """
    root = hub_dir()
    if root is None:
        return name
    path = root / name
    if not any(path.glob(holds)):
        raise UserError(
            f"{path}: has no {holds}; put the files of {name} there, or use no hub directory, to "
            "download them"
        )
    return str(path)


def dataset_files(name: str, split: str, folder: str = "data") -> list[Path]:
    """Return the Parquet files of a data set's split, in order. Downloads them if necessary.

    Raises:
        UserError: they are not in the hub directory in use or, where there is none, on the hub.
    """
    files = f"{folder}/{split}-*.parquet"
    if hub_dir() is not None:
        root = resolve_hub(name, files)
    else:
        from huggingface_hub import snapshot_download  # here, since figures download nothing

        try:
            root = snapshot_download(name, repo_type="dataset", allow_patterns=files)
        except (OSError, ValueError) as error:
            raise UserError(f"data set {name}: {_first_line(error)}") from error
    found = sorted(Path(root).glob(files))
    if not found:
        raise UserError(f"data set {name}: has no {files}")
    return found


def load_model(
    auto_class: Any,
    source: str | Path,
    *,
    vocabulary_tokens: int = 0,
    untrained: Collection[str] = (),
    **options: Any,
) -> Any:
    """Return a model whose every weight is from its safetensors files; nothing is unpickled.

    Args:
        auto_class: transformers' class for the kind of model.
        source: a folder or a hub id.
        vocabulary_tokens: how many token ids the model must know at least.
        untrained: names of weights that may be missing, and are then drawn at random.
        options: further ones of ``from_pretrained``.

    Raises:
        UserError: there is no such model, its files are damaged, or its weights do not fit it.
    """
    model, found = load_pretrained(
        auto_class,
        source,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below, by name
        **options,
    )
    if missing := set(found["missing_keys"]).difference(untrained):
        raise UserError(f"{source}: its *.safetensors have no {_listed(missing)}")
    if misfits := [
        f"{name} of {list(stored)}, not {list(needed)}"
        for name, stored, needed in found["mismatched_keys"]
    ]:
        raise UserError(
            f"{source}: its *.safetensors do not fit its config.json: {_listed(misfits)}"
        )
    if model.config.vocab_size < vocabulary_tokens:
        raise UserError(
            f"{source}: vocabulary of {model.config.vocab_size} tokens, must be at least the "
            f"tokenizer's {vocabulary_tokens}"
        )
    return model


def load_pretrained(auto_class: Any, source: str | Path, **options: Any) -> Any:
    """Return ``auto_class.from_pretrained(source, **options)``, for a tokenizer.

    No code of the source is run, and nobody is asked whether to.

    Raises:
        UserError: there is no such source, its files are damaged, or it needs code of its own.
    """
    try:
        return auto_class.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # of any type, where a file does not say what it should
        raise UserError(f"{source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return an error's first line, with the next one if it only announces that."""
    kind = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    return f"{kind}{first} {rest[0].strip()}" if rest and first.endswith(":") else f"{kind}{first}"


def _listed(items: Collection[str]) -> str:
    more = len(items) - NAMED_TENSORS
    named = ", ".join(sorted(items)[:NAMED_TENSORS])
    return f"{named} and {more} more" if more > 0 else named


@contextmanager
def quiet() -> Iterator[None]:
    """Stop the libraries from printing reports and from sending usage data to the hub."""
    # Here, since figures, which need neither, read hub directories too.
    import transformers
    from huggingface_hub import constants

    verbosity = transformers.logging.get_verbosity()
    progress_bar = transformers.logging.is_progress_bar_enabled()
    telemetry_off = constants.HF_HUB_DISABLE_TELEMETRY
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if progress_bar:
            transformers.logging.enable_progress_bar()
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry_off
