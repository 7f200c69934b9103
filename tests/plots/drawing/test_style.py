from itertools import pairwise

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.text import Annotation

from bench.errors import UserError
from plots.drawing import style


def test_looks_give_each_named_algorithm_its_own_colour_and_marker():
    assert len({look.colour for look in style.LOOKS.values()}) == len(style.LOOKS)
    assert len({look.marker for look in style.LOOKS.values()}) == len(style.LOOKS)
    assert style.looks(["rloo", "ppo"]) == {"ppo": style.LOOKS["ppo"], "rloo": style.LOOKS["rloo"]}


def test_looks_of_new_algorithms_depend_on_the_names_only_and_differ_from_all():
    found = style.looks(["zeta", "ppo", "new_loss"])
    assert list(found) == ["ppo", "new_loss", "zeta"]
    assert found == style.looks(["new_loss", "zeta", "ppo", "zeta"])
    assert found["new_loss"].label == "new loss"
    looks = list(style.looks(map(str, range(35))).values())
    pairs = {(look.colour, look.marker) for look in looks}
    assert len(pairs) == 35
    for one, next_one in pairwise(looks):
        assert one.colour != next_one.colour
        assert one.marker != next_one.marker
    style.looks(map(str, range(50)))  # more than that look like others, and are drawn
    assert not {marker for _, marker in pairs} & {look.marker for look in style.LOOKS.values()}


def test_new_algorithms_have_colours_that_no_other_of_the_figure_has():
    old = ["rloo_vanilla", "copg"]  # orange and sky blue
    found = style.looks([*old, "behaviour", "proximal", "decoupled", "topr"])
    assert len({look.colour for look in found.values()}) == 6
    alone = style.looks(["behaviour", "proximal", "decoupled"])
    assert alone == {name: found[name] for name in alone}  # of rows of one figure


def test_looks_never_use_a_cross():
    used = {look.marker for look in style.LOOKS.values()} | set(style.FREE_MARKERS)
    assert not used & {"x", "X", "+"}


def test_n_colours_run_from_dark_to_light_in_order_of_n():
    colours = style.n_colours([64, 1, 8, 1])
    assert list(colours) == [1, 8, 64]
    light = [sum(mpl.colors.to_rgb(colour)) for colour in colours.values()]
    assert light == sorted(light)


def test_log2_axis_has_one_tick_per_n():
    _, (ax,) = style.subplots(1)
    style.log2_axis(ax, [1, 4, 64, 4])
    assert ax.get_xscale() == "log"
    assert ax.get_xticks().tolist() == [1, 4, 64]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "64"]


def test_end_labels_keep_their_order_and_a_gap():
    _, (ax,) = style.subplots(1)
    ax.set_ylim(0, 1)
    style.end_labels(ax, 1.0, [(0.52, "b", "k"), (0.5, "a", "k"), (0.9, "c", "k")])
    at = {text.get_text(): text.xy[1] for text in ax.texts if isinstance(text, Annotation)}
    assert (at["a"], at["c"]) == (0.5, 0.9)
    assert at["b"] == pytest.approx(0.575)


def test_end_labels_at_the_top_are_moved_down():
    _, (ax,) = style.subplots(1)
    ax.set_ylim(0, 1)
    style.end_labels(
        ax, 1.0, [(1.0, "c", "k"), (0.99, "b", "k"), (0.98, "a", "k"), (0.1, "d", "k")]
    )
    at = {text.get_text(): text.xy[1] for text in ax.texts if isinstance(text, Annotation)}
    assert at == pytest.approx({"c": 1.0, "b": 0.925, "a": 0.85, "d": 0.1})


def runs(**columns):
    base = {
        "seed": [0, 1], "preset": ["tiny"] * 2, "model": ["0.1m"] * 2,
        "git_revision": ["0123456789"] * 2, "git_dirty": [False] * 2,
        "host_cpu": ["Some CPU"] * 2, "cores": [2, 2], "device": ["cpu"] * 2,
    }  # fmt: skip
    return pd.DataFrame(base | columns)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, "2 seeds · preset tiny · model 0.1m · git 0123456 · Some CPU, 2 cores"),
        (
            {"seed": [3, 3], "git_dirty": [True, True], "device": ["NVIDIA H100"] * 2},
            "1 seed · preset tiny · model 0.1m · git 0123456+ · NVIDIA H100",
        ),
        (
            {"git_revision": ["abcdefghi", "0123456789"], "cores": [2, 8]},
            "2 seeds · preset tiny · model 0.1m · git 2 revisions · 2 machines",
        ),
        (
            {"model": ["0.4m"] * 2, "tuned_at": ["0.1m"] * 2},
            "2 seeds · tuned at 0.1m · preset tiny · model 0.4m · git 0123456 · Some CPU, 2 cores",
        ),
        (
            {"tuned_at": pd.Series([None, None], dtype=object)},
            "2 seeds · preset tiny · model 0.1m · git 0123456 · Some CPU, 2 cores",
        ),
    ],
)
def test_footer_says_where_the_runs_come_from(columns, text):
    figure, _ = style.subplots(1)
    style.footer(figure, runs(**columns))
    assert figure.get_supxlabel() == text


def test_save_writes_the_same_bytes_twice_and_at_least_200_dpi(tmp_path):
    written = []
    for folder in ("a", "b"):
        figure, (ax,) = style.subplots(1, width=style.ONE_COLUMN, height=2)
        ax.plot([1, 2], [0.5, 0.6], "o-")
        png, svg = style.save(figure, tmp_path / folder / "fig")
        assert (png.name, svg.name) == ("fig.png", "fig.svg")
        written.append((png.read_bytes(), svg.read_bytes()))
    assert written[0] == written[1]
    width = int.from_bytes(written[0][0][16:20], "big")  # of the PNG header
    assert width >= 200 * style.ONE_COLUMN


def test_save_names_a_directory_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    figure, _ = style.subplots(1)
    with pytest.raises(UserError, match=r"file: figures cannot be written"):
        style.save(figure, tmp_path / "file" / "fig")


def test_remark_is_a_line_below_the_footer():
    figure, _ = style.subplots(1)
    style.remark(figure, "alone")
    assert figure.get_supxlabel() == "alone"
    figure.supxlabel("5 seeds")
    style.remark(figure, "Invalid, saturated: C9")
    assert figure.get_supxlabel() == "5 seeds\nInvalid, saturated: C9"
