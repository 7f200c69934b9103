"""Data sets and models by hub id, or from a local directory of the same layout.

A ``hub_dir`` holds one folder ``<org>/<name>`` per repository, with the repository's own files: for
a data set ``data/<split>-*.parquet``, for a model ``config.json`` and its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from bench.config import ConfigError


def resolve_hub(name: str, hub_dir: str | None, holds: str = "config.json") -> str:
    """Return what ``from_pretrained`` takes: the folder of ``name`` in ``hub_dir``, or its hub id.

    Args:
        name: a hub id, ``<org>/<name>``.
        hub_dir: a directory of such folders, or None for the hub. Where it is given nothing is
            downloaded.
        holds: a file, or a glob pattern of files, that the folder must have.

    Raises:
        ConfigError: the directory or the files are not there.
    """
    if hub_dir is None:
        return name
    root = Path(hub_dir)
    if not root.is_dir():
        raise ConfigError(
            f"hub_dir {root}: no such directory; allowed are a directory with a folder {name}, "
            "or none, to download"
        )
    path = root / name
    if not any(path.glob(holds)):
        raise ConfigError(
            f"{path}: has no {holds}; put the files of {name} there, or leave hub_dir out to "
            "download them"
        )
    return str(path)


def dataset_files(name: str, split: str, hub_dir: str | None) -> list[Path]:
    """Return the Parquet files of a data set's split, in order; downloads them if need be.

    Raises:
        ConfigError: they are neither in ``hub_dir`` nor, where that is None, on the hub.
    """
    files = f"data/{split}-*.parquet"
    if hub_dir is not None:
        root = resolve_hub(name, hub_dir, files)
    else:
        try:
            root = snapshot_download(name, repo_type="dataset", allow_patterns=files)
        except (OSError, ValueError) as error:
            raise ConfigError(f"data set {name}: {_first_line(error)}") from error
    found = sorted(Path(root).glob(files))
    if not found:
        raise ConfigError(f"data set {name}: has no {files}")
    return found


def load_pretrained(auto_class: Any, source: str, **options: Any) -> Any:
    """Return ``auto_class.from_pretrained(source, **options)``.

    Raises:
        ConfigError: there is no such model, or its files are damaged.
    """
    try:
        return auto_class.from_pretrained(source, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
