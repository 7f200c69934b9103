import math
from dataclasses import replace

import pandas as pd
from rich.console import Console

from bench.experiments.tables import print_frame
from plots.analysis.claims import Verdict
from plots.analysis.registry import Claim
from plots.analysis.stats import Interval
from reproductions.report import interval_text, print_verdicts

CLAIM = Claim(
    id="C9", figure="fig", sentence="Data age.", source="-", estimand="fall_per_octave",
    outcome="final", definition="-", unit="win rate", algorithms=("ppo",), n=(1, 2),
    kind="direction", margin=0.01, margin_reason="-",
)  # fmt: skip


VERDICT = Verdict(
    claim=CLAIM, status="inconclusive", preset="tiny", interval=Interval(0.02, 0.001, 0.039, 5),
    p=0.0421, p_holm=0.0842, mde=0.0312, worst=-0.004, worst_seed=3, reason="by Holm",
)  # fmt: skip


def printed(capsys, verdict):
    """Return the lines about one verdict on a terminal of 80 columns."""
    print_verdicts(Console(width=80), [verdict])
    return capsys.readouterr().out.splitlines()[2:]


def test_print_verdicts_has_a_line_for_the_claim_and_one_for_verdict_and_estimate(capsys):
    assert printed(capsys, VERDICT) == [
        "C9 Data age.",
        "  inconclusive at tiny scale, estimate +0.0200 [+0.0010, +0.0390]",
        "    by Holm",
        "    win rate; 5 seeds; MDE 0.0312; p (Holm) 0.084; worst seed -0.0040 (seed 3)",
    ]


def test_print_verdicts_says_none_where_there_is_no_p_value(capsys):
    equal = replace(VERDICT, p=None, p_holm=None, mde=math.nan)
    assert "MDE none; p (Holm) none" in printed(capsys, equal)[-1]


def test_the_longest_verdict_fits_a_line_of_80_columns(capsys):
    """30 characters of interval beside "reproduced but smaller at small scale"."""
    longest = replace(VERDICT, status="reproduced but smaller", preset="small", reason="")
    lines = printed(capsys, longest)
    assert len(lines) == 3
    assert "reproduced but smaller at small scale" in lines[1]
    assert "+0.0390]" in lines[1]


def test_print_frame_shows_what_is_not_there_as_a_dash(capsys):
    print_frame(Console(width=80), pd.DataFrame({"a": ["x"], "opt": [math.nan]}), "title")
    assert capsys.readouterr().out.splitlines()[4].split() == ["x", "-"]


def test_interval_text_leaves_out_what_is_not_there():
    assert interval_text(0.5, 0.25, 0.75) == "+0.5000 [+0.2500, +0.7500]"
    assert interval_text(0.5, math.nan, math.nan) == "+0.5000"
    assert interval_text(math.nan, math.nan, math.nan) == "-"
