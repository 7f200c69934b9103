import pkgutil
import subprocess
import sys

import plots


def test_plots_never_import_torch():
    modules = [m.name for m in pkgutil.walk_packages(plots.__path__, "plots.")]
    assert "plots.drawing.panels" in modules
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
