import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.experiments.tuned import RECORDED, Tuned, read_tuned, write_tuned


def test_what_is_written_is_read_back_strings_included(tmp_path):
    choices = {
        "tiny": {
            "ppo": Tuned(learning_rate=5e-5, algorithm_params={"kl_coef": 0.1}),
            "mine": Tuned(
                learning_rate=1e-4,
                algorithm_params={"old_logprobs": "proximal", "epochs": 2},
                at_edge=("learning_rate",),
                tied_with=("epochs = 1",),
            ),
        },
        "tiny:arithmetic": {"ppo": Tuned(learning_rate=1e-3)},
    }
    write_tuned(tmp_path / "tuned.toml", choices)
    assert read_tuned(tmp_path / "tuned.toml") == choices
    assert read_tuned(tmp_path / "none.toml") == {}


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


def test_the_authors_hyper_parameters_count_as_chosen(tmp_path):
    paper = preset("paper", tmp_path)
    assert paper.is_tuned("online_dpo", 3e-6, {"beta": 0.1})
    assert not paper.is_tuned("grpo", 3e-6, {"kl_coef": 0.04})


def test_choices_are_for_one_task(tmp_path):
    own = preset("tiny", tmp_path, "tldr_tiny")
    assert (own.key, own.task, own.tuned) == ("tiny", None, preset("tiny", tmp_path).tuned)
    other = preset("tiny", tmp_path, "tldr")
    assert (other.key, other.tuned) == ("tiny:tldr", {})
    assert other.stage().task.name == "tldr"
    with pytest.raises(UserError, match="task 'chess': allowed are tldr, tldr_tiny"):
        preset("tiny", tmp_path, "chess")
