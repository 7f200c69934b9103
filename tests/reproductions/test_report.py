import math
import re

import pandas as pd
from rich.console import Console

from bench.experiments.tables import print_frame
from plots.analysis.claims import Claim, Verdict
from plots.analysis.stats import Interval
from reproductions.report import interval_text, print_verdicts

CLAIM = Claim(
    id="C9", figure="fig", sentence="Data age.", source="-", estimand="fall_per_octave",
    definition="-", unit="win rate", algorithms=("ppo",), n=(1, 2), kind="direction", margin=0.01,
    margin_reason="-",
)  # fmt: skip


def test_print_verdicts_shows_the_adjusted_p_beside_the_unadjusted_interval(capsys):
    interval = Interval(0.02, 0.001, 0.039, 5)
    one = Verdict(CLAIM, "inconclusive", "tiny", interval, 0.0421, 0.0842, "by Holm")
    print_verdicts(Console(width=160), [one])
    head, _, row = capsys.readouterr().out.splitlines()[2:5]
    columns = [re.split(" {2,}", line.strip()) for line in (head, row)]
    assert dict(zip(*columns, strict=True)) == {
        "claim": "C9 Data age.",
        "verdict": "inconclusive at tiny scale",
        "estimate": "+0.0200 [+0.0010, +0.0390]",
        "unit": "win rate",
        "p (Holm)": "0.084",
        "seeds": "5",
        "reason": "by Holm",
    }


def test_print_frame_shows_what_is_not_there_as_a_dash(capsys):
    print_frame(Console(width=80), pd.DataFrame({"a": ["x"], "opt": [math.nan]}), "title")
    assert capsys.readouterr().out.splitlines()[4].split() == ["x", "-"]


def test_interval_text_leaves_out_what_is_not_there():
    assert interval_text(0.5, 0.25, 0.75) == "+0.5000 [+0.2500, +0.7500]"
    assert interval_text(0.5, math.nan, math.nan) == "+0.5000"
    assert interval_text(math.nan, math.nan, math.nan) == "-"
