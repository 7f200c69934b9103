"""Checkpoints of the stages are what was trained, to the bit, or refused in one line."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.stages import find, resolve
from tests.damage import DAMAGE, fuzz, refusal

from .test_stages import STAGE

FILES = [
    "provenance.json",
    "sft/config.json",
    "sft/generation_config.json",
    "sft/model.safetensors",
    "sft/tokenizer.json",
    "reward/config.json",
    "reward/model.safetensors",
    "reward/tokenizer_config.json",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the directory of trained checkpoints."""
    return resolve(STAGE, cache_dir=tmp_path_factory.mktemp("cache")).sft_dir.parent


@pytest.fixture
def stage(sound, tmp_path):
    """Return a copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / sound.name)


def reason(stage):
    with pytest.raises(UserError) as raised:
        find(STAGE, [stage.parent])
    assert str(raised.value).endswith(f"; delete {stage} to have it made anew")
    return str(raised.value).removesuffix(f"; delete {stage} to have it made anew")


def flip(path, at):
    """Flip the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", ["sft", "reward"])
def test_a_changed_bit_of_the_weights_is_refused(stage, part):
    flip(stage / part / "model.safetensors", -5)
    assert reason(stage) == f"{stage}: {part}/model.safetensors changed since the training"


@pytest.mark.parametrize("part", ["sft", "reward"])
def test_a_changed_digit_of_the_configuration_is_refused(stage, part):
    path = stage / part / "config.json"
    flip(path, path.read_bytes().index(b"1e-05"))
    assert json.loads(path.read_bytes())["layer_norm_eps"] == 0.0  # it is sound JSON
    assert reason(stage) == f"{stage}: {part}/config.json changed since the training"


def test_the_weights_of_a_record_without_checksums_are_checked(stage):
    record = json.loads((stage / "provenance.json").read_text())
    del record["sha256"]
    (stage / "provenance.json").write_text(json.dumps(record))
    assert find(STAGE, [stage.parent]) is not None
    (stage / "provenance.json").write_text(json.dumps(record | {"weights_digest": "0" * 12}))
    assert reason(stage) == f"{stage}: its weights changed since the training"


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"sha256": 1}', b"\xff"])
def test_checkpoints_without_a_readable_record_are_refused(stage, content):
    path = stage / "provenance.json"
    path.unlink() if content is None else path.write_bytes(content)
    assert reason(stage) == (
        f"{stage}: provenance.json or a file that it names is missing or damaged"
    )


@pytest.mark.parametrize("file", ["sft/config.json", "reward/model.safetensors"])
def test_a_directory_in_place_of_a_file_is_refused(stage, file):
    (stage / file).unlink()
    (stage / file).mkdir()
    assert reason(stage).startswith(f"{stage / file}: ")


@fuzz(25)
@given(name=st.sampled_from(FILES), damage=DAMAGE)
def test_any_damage_is_refused_or_changes_nothing(sound, tmp_path_factory, name, damage):
    stage = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / sound.name)
    damage(stage / name)
    if (line := refusal(lambda: find(STAGE, [stage.parent]))) is not None:
        assert line.endswith(f"; delete {stage} to have it made anew")
    else:
        assert all((stage / one).read_bytes() == (sound / one).read_bytes() for one in FILES[1:])
    shutil.rmtree(stage.parent)
