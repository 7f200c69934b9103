import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.experiments.tuned import RECORDED, Tuned, read_tuned, write_tuned
from bench.staleness import ON_POLICY


def test_what_is_written_is_read_back_strings_included(tmp_path):
    choices = {
        "tiny": {
            "ppo": Tuned(learning_rate=5e-5, algorithm_params={"kl_coef": 0.1}),
            "mine": Tuned(
                learning_rate=1e-4,
                algorithm_params={"old_logprobs": "proximal", "epochs": 2},
                metric="area",
                value=0.875,
                standard_error=0.0025,
                at_edge=("learning_rate",),
                beyond_grid=("epochs",),
                tied_with=("epochs = 1",),
            ),
        },
        "tiny/0.4m": {"ppo": Tuned(learning_rate=1e-4, metric="area", value=0.5)},
        "tiny:arithmetic": {"ppo": Tuned(learning_rate=1e-3)},
    }
    write_tuned(tmp_path / "tuned.toml", choices)
    assert read_tuned(tmp_path / "tuned.toml") == choices
    assert read_tuned(tmp_path / "none.toml") == {}


def test_a_file_without_a_metric_was_chosen_by_final_win_rate(tmp_path):
    (tmp_path / "tuned.toml").write_text("[tiny.ppo]\nlearning_rate = 5e-05\n")
    found = read_tuned(tmp_path / "tuned.toml")["tiny"]["ppo"]
    assert (found.metric, found.value, found.standard_error) == ("final", None, None)
    assert {entry.metric for entry in preset("tiny", tmp_path).tuned.values()} == {"final"}


def test_the_recorded_file_is_as_it_would_be_written(tmp_path):
    write_tuned(tmp_path / "again.toml", read_tuned(RECORDED))
    assert (tmp_path / "again.toml").read_text() == RECORDED.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[tiny", "Expected"),
        ("tiny = 3", "attribute"),
        ("[tiny.ppo]\nrate = 1.0", "unknown rate; allowed are algorithm_params, at_edge"),
        ("[tiny.ppo]\nlearning_rate = 'fast'", "learning_rate = 'fast': must be a number above 0"),
        ("[tiny.ppo]\nalgorithm_params = {}", "learning_rate"),
        (
            "[tiny.ppo]\nlearning_rate = 1.0\nmetric = 'best'",
            "metric = 'best': allowed are area, final",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, text, why):
    path = tmp_path / "tuned.toml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        preset("tiny", tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{path}: cannot be read as tuned hyper-parameters: ")
    assert why in message
    assert "\n" not in message


def test_the_users_choice_replaces_the_recorded_one_and_adds_to_it(tmp_path):
    own = {
        "ppo": Tuned(learning_rate=1e-3),
        "grpo": Tuned(learning_rate=2e-3, algorithm_params={"kl_coef": 0.1}),
    }
    write_tuned(tmp_path / "tuned.toml", {"tiny": own})
    found = preset("tiny", tmp_path)
    assert found.tuned["ppo"] == own["ppo"]
    assert found.tuned["rloo"] == preset("tiny").tuned["rloo"]
    assert found.algorithm("grpo").kl_coef == 0.1
    assert found.algorithm("ppo").completions_per_prompt == 2  # the preset's own


def test_a_run_is_tuned_where_it_has_exactly_what_was_chosen(tmp_path):
    tiny = preset("tiny", tmp_path)
    assert tiny.is_tuned("online_dpo", 5e-5, {"beta": 0.1})
    assert not tiny.is_tuned("online_dpo", 1e-4, {"beta": 0.1})
    assert not tiny.is_tuned("online_dpo", 5e-5, {"beta": 0.1, "epochs": 2})
    assert not tiny.is_tuned("grpo", 2e-4, {"kl_coef": 0.04})  # no search has been made
    assert not preset("smoke", tmp_path).is_tuned("ppo", 3e-4, {"kl_coef": 0.05})


def test_a_size_runs_at_its_own_choice_else_at_that_of_the_first(tmp_path):
    own = Tuned(learning_rate=2.5e-5, algorithm_params={"kl_coef": 0.2})
    write_tuned(tmp_path / "tuned.toml", {"tiny/0.4m": {"ppo": own}})
    tiny = preset("tiny", tmp_path)
    first, ppo, rloo = (
        tiny.run_config(name, ON_POLICY, model=model)
        for name, model in (("ppo", None), ("ppo", "0.4m"), ("rloo", "0.4m"))
    )
    assert (first.learning_rate, first.algorithm.kl_coef) == (5e-5, 0.1)  # as recorded
    assert (ppo.learning_rate, ppo.algorithm.kl_coef) == (2.5e-5, 0.2)
    assert (rloo.learning_rate, rloo.algorithm.kl_coef) == (1e-4, 0.1)
    places = {(n, m): tiny.tuned_at(n, m) for n in ("ppo", "rloo", "grpo") for m in tiny.models}
    assert [key for key, place in places.items() if place] == [("rloo", "0.4m")]
    assert places["rloo", "0.4m"] == "0.1m"
    params = {"completions_per_prompt": 2, "kl_coef": 0.2}
    assert tiny.is_tuned("ppo", 2.5e-5, params, "0.4m")
    assert not tiny.is_tuned("ppo", 2.5e-5, params, "0.1m")
    assert not tiny.is_tuned("ppo", 5e-5, {**params, "kl_coef": 0.1}, "0.4m")


def test_the_authors_hyper_parameters_count_as_chosen(tmp_path):
    paper = preset("paper", tmp_path)
    assert paper.is_tuned("online_dpo", 3e-6, {"beta": 0.1})
    assert not paper.is_tuned("grpo", 3e-6, {"kl_coef": 0.04})


def test_choices_are_for_one_task(tmp_path):
    own = preset("tiny", tmp_path, "tldr_tiny")
    assert (own.key_of(), own.task, own.tuned) == ("tiny", None, preset("tiny", tmp_path).tuned)
    other = preset("tiny", tmp_path, "tldr")
    assert (other.key_of(), other.tuned) == ("tiny:tldr", {})
    assert other.key_of("0.4m") == "tiny:tldr/0.4m"
    assert other.stage().task.name == "tldr"
    with pytest.raises(UserError, match="task 'chess': allowed are arithmetic, chat_worth, "):
        preset("tiny", tmp_path, "chess")
