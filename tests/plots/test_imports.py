import subprocess
import sys
from pathlib import Path

import plots


def test_plots_never_import_torch():
    names = sorted(path.stem for path in Path(plots.__file__).parent.glob("*.py"))
    modules = ["plots", *(f"plots.{name}" for name in names if name != "__init__")]
    assert "plots.panels" in modules
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
