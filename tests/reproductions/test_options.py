from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import algorithms, paths
from bench.errors import UserError
from bench.experiments.presets import preset
from reproductions.options import Options, mini_batches, parse


def test_parse_defaults_to_a_real_run_at_tiny():
    found = parse("", [])
    assert (found.preset.name, found.seeds, found.algorithms, found.n_values) == (
        "tiny", None, None, None,
    )  # fmt: skip
    assert (found.fresh, found.replot, found.hub_dir) == (False, False, None)
    assert found.results_dir == paths.RESULTS / "tiny"
    assert found.record_dir == paths.RESULTS / "reference" / "tiny"


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("0,3,4", (0, 3, 4)), ("4,", (4,)), ("1,1", (1,))]
)
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert parse("", ["--seeds", text]).seeds == seeds


def test_mini_batches_are_algorithms_by_n():
    cells = mini_batches("ppo", "rloo")(Options(preset=preset("smoke")))
    assert [(c.algorithm.name, str(c.schedule)) for c in cells] == [
        ("ppo", "reuse(1)"), ("ppo", "reuse(4)"), ("rloo", "reuse(1)"), ("rloo", "reuse(4)"),
    ]  # fmt: skip


def test_mini_batches_take_the_users_algorithms_and_n_as_far_as_there_is_room():
    asked = Options(preset=preset("smoke"), algorithms=("copg", "rloo"), n_values=(2,))
    assert [(c.algorithm.name, c.schedule.n) for c in mini_batches("ppo")(asked)] == [
        ("copg", 2), ("rloo", 2),
    ]  # fmt: skip
    assert [c.algorithm.name for c in mini_batches("ppo", most=1)(asked)] == ["copg"]


def test_mini_batches_have_one_cell_for_all_learning_rate_schedules_at_n_1():
    grid = mini_batches("ppo", lr_schedules=("per_update", "per_round"))
    cells = grid(Options(preset=preset("smoke")))
    assert [(c.schedule.n, c.lr_schedule) for c in cells] == [
        (1, "per_update"), (4, "per_update"), (4, "per_round"),
    ]  # fmt: skip
    # so that it is the cell of the other figures
    assert cells[0] == mini_batches("ppo")(Options(preset=preset("smoke")))[0]


ALGORITHMS = ", ".join(algorithms.ALGORITHMS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--preset huge", "preset 'huge': allowed are smoke, tiny, worth, small, paper"),
        ("--algorithms ppo,dqn", f"argument --algorithms: 'dqn': allowed are {ALGORITHMS}"),
        (
            "--n 0",
            "argument --n: '0': allowed are whole numbers from 1, with commas between them",
        ),
        (
            "--n 1,two",
            "argument --n: '1,two': allowed are whole numbers from 1, with commas between them",
        ),
        (
            "--seeds -1,",
            "argument --seeds: expected one argument",
        ),
        (
            "--seeds 0",
            "argument --seeds: '0': allowed are whole numbers from 1, with commas between them",
        ),
        ("--workers 0", "--workers 0: must be at least 1"),
        ("--workers all", "argument --workers: invalid int value: 'all'"),
        (
            "--fresh --replot",
            "--fresh repeats all runs and --replot runs nothing: give one of them",
        ),
        ("--nope", "unrecognized arguments: --nope"),
    ],
)
def test_parse_refuses_what_is_not_allowed(arguments, message):
    with pytest.raises(UserError) as raised:
        parse("", arguments.split())
    assert str(raised.value) == message


def test_help_shows_the_caption(capsys):
    with pytest.raises(SystemExit) as raised:
        parse("A caption, 100% as written.", ["--help"])
    assert raised.value.code == 0
    assert "A caption, 100% as written." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "10001"], "argument --seeds: '10001': at most 10000 is allowed"),
        (["--seeds", "1" + "0" * 9], "argument --seeds: '1000000000': at most 10000 is allowed"),
        (
            ["--seeds", "9223372036854775808,0"],
            "argument --seeds: '9223372036854775808,0': at most 9223372036854775807 is allowed",
        ),
        (["--seeds", "0," * 10001], "argument --seeds: 10001 values: at most 10000 are allowed"),
        (
            ["--seeds", "9" * 5000],
            f"argument --seeds: '{'9' * 80}...': at most 10000 is allowed",
        ),
        (["--n", "2147483649"], "argument --n: '2147483649': at most 2147483648 is allowed"),
        (["--workers", "1025"], "--workers 1025: must be at most 1024"),
        (["--out", ""], "argument --out: '': name a directory, . for this one"),
        (["--out", "a\0b"], "argument --out: 'a\\x00b': is no path: embedded null byte"),
    ],
)
def test_parse_refuses_what_is_too_large_or_no_path(arguments, message):
    with pytest.raises(UserError) as raised:
        parse("", arguments)
    assert str(raised.value) == message


def test_the_largest_that_are_allowed():
    assert len(parse("", ["--seeds", "10000"]).seeds) == 10_000
    assert parse("", ["--seeds", "9223372036854775807,"]).seeds == (2**63 - 1,)
    assert parse("", ["--n", "2147483648", "--workers", "1024"]).n_values == (2**31,)


FLAGS = (
    "--preset", "--task", "--seeds", "--algorithms", "--n", "--engine", "--workers", "--ray",
    "--with", "--out", "--hub-dir",
)  # fmt: skip
NUMBERS = st.lists(st.integers(-1, 10**25), max_size=4).map(lambda ns: ",".join(map(str, ns)))


@settings(max_examples=300, deadline=1000, derandomize=True)
@given(st.sampled_from(FLAGS), st.text() | NUMBERS)
def test_any_value_is_read_or_refused(flag, text):
    with suppress(UserError):
        parse("", [f"{flag}={text}"])
