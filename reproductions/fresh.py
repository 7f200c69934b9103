"""What ``--fresh`` deletes: of a results directory, what is the suite's own by its name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UserError
from bench.paths import CHECKPOINTS, FIGURES, LOGS, UNFINISHED
from bench.records import store
from bench.records.marker import MARKER, is_marked
from bench.records.schemas import SCHEMAS
from reproductions.page.render import PAGE

SCRIPTS = ("fig_*.py", "table_*.py", "ablation_*.py")  # each names what it makes after itself
FILES = (*(f"{table}.parquet" for table in SCHEMAS), PAGE)
FOLDERS = (*SCHEMAS, UNFINISHED, CHECKPOINTS, FIGURES, LOGS)
MODEL = r"(?:sft-.+-[0-9a-f]{12}|reward-.+-[0-9a-f]{12}-s[0-9]+)"
CHECKPOINT = re.compile(rf"{MODEL}|.+-[0-9a-f]{{12}}")  # before they were kept apart
LOG = re.compile(rf"(?:{store.RUN_ID.pattern}|{MODEL}|worker-[0-9]+)\.log")


def delete(results_dir: Path) -> None:
    """Delete the runs, models, figures and logs that the suite made in a results directory.

    Raises:
        UserError: the directory has folders of these names and is not known to be the suite's, or
            something cannot be deleted; in the first case nothing is.
    """
    there = [name for name in (*FOLDERS, *FILES) if (results_dir / name).exists()]
    if there and not is_marked(results_dir):
        raise UserError(
            f"--fresh: {results_dir} has no {MARKER}, so it may not be this suite's, and --fresh "
            f"would delete runs, models, figures and logs in {', '.join(there)}; choose another "
            "--out, or move these away"
        )
    try:
        for path in list(_own(results_dir)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise UserError(f"--fresh: cannot delete {error.filename}: {error.strerror}") from error


def _own(results_dir: Path) -> Iterator[Path]:
    """Yield what the suite made, ``runs`` first: without its row there a run is not complete."""
    for table in SCHEMAS:
        for path in (results_dir / table).glob("*.parquet"):
            if store.RUN_ID.fullmatch(path.stem):
                yield path
        if store.single(results_dir, table).exists():
            yield store.single(results_dir, table)
    if (results_dir / PAGE).exists():
        yield results_dir / PAGE
    for path in (results_dir / UNFINISHED).glob("*"):
        if store.RUN_ID.fullmatch(path.name):
            yield path
    for path in (results_dir / CHECKPOINTS).glob("*/provenance.json"):
        if CHECKPOINT.fullmatch(path.parent.name):
            yield path.parent
    for path in (results_dir / LOGS).glob("*.log"):
        if LOG.fullmatch(path.name):
            yield path
    figure = _figure()
    for path in (results_dir / FIGURES).glob("*"):
        if figure.fullmatch(path.name):
            yield path


def _figure() -> re.Pattern[str]:
    """Return what the files of figures and tables are called."""
    folder = Path(__file__).parent
    names = "|".join(path.stem for kind in SCRIPTS for path in folder.glob(kind))
    return re.compile(rf"(?:{names})(?:\.png|\.svg|\.parquet|_[a-z]+\.trace\.json)")
