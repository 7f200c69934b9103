"""Checkpoints of the stages are what was trained, to the bit, or refused in one line."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.stages import find, resolve
from tests.damage import DAMAGE, fuzz, refusal

from .test_stages import REWARD, SFT, STAGE

FILES = [
    f"{SFT}/provenance.json",
    f"{SFT}/config.json",
    f"{SFT}/generation_config.json",
    f"{SFT}/model.safetensors",
    f"{SFT}/tokenizer.json",
    f"{REWARD}/provenance.json",
    f"{REWARD}/config.json",
    f"{REWARD}/model.safetensors",
    f"{REWARD}/tokenizer_config.json",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return a cache of trained checkpoints."""
    cache = tmp_path_factory.mktemp("cache")
    resolve(STAGE, 0, cache_dir=cache)
    return cache


@pytest.fixture
def cache(sound, tmp_path):
    """Return a copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "copied")


def reason(path):
    with pytest.raises(UserError) as raised:
        find(STAGE, 0, [path.parent])
    assert str(raised.value).endswith(f"; delete {path} to have it made anew")
    return str(raised.value).removesuffix(f"; delete {path} to have it made anew")


def flip(path, at):
    """Flip the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", [SFT, REWARD])
def test_a_changed_bit_of_the_weights_is_refused(cache, part):
    flip(cache / part / "model.safetensors", -5)
    assert reason(cache / part) == f"{cache / part}: model.safetensors changed since the training"


@pytest.mark.parametrize("part", [SFT, REWARD])
def test_a_changed_digit_of_the_configuration_is_refused(cache, part):
    path = cache / part / "config.json"
    flip(path, path.read_bytes().index(b"1e-05"))
    assert json.loads(path.read_bytes())["layer_norm_eps"] == 0.0  # it is sound JSON
    assert reason(cache / part) == f"{cache / part}: config.json changed since the training"


def test_a_changed_digest_of_the_weights_is_refused(cache):
    path = cache / REWARD / "provenance.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"weights_digest": "0" * 12}))
    assert reason(cache / REWARD) == f"{cache / REWARD}: its weights changed since the training"


@pytest.mark.parametrize("part", [SFT, REWARD])
@pytest.mark.parametrize(
    "content", [None, b"{", b"[]", b'{"weights_digest": "", "sha256": 1}', b"{}", b"\xff"]
)
def test_checkpoints_without_a_readable_record_are_refused(cache, part, content):
    path = cache / part / "provenance.json"
    path.unlink() if content is None else path.write_bytes(content)
    assert reason(cache / part) == (
        f"{cache / part}: provenance.json or a file that it names is missing or damaged"
    )


@pytest.mark.parametrize("file", [f"{SFT}/config.json", f"{REWARD}/model.safetensors"])
def test_a_directory_in_place_of_a_file_is_refused(cache, file):
    (cache / file).unlink()
    (cache / file).mkdir()
    assert reason((cache / file).parent).startswith(f"{cache / file}: ")


@fuzz(25)
@given(name=st.sampled_from(FILES), damage=DAMAGE)
def test_any_damage_is_refused_or_changes_nothing(sound, tmp_path_factory, name, damage):
    cache = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / "copied")
    damage(cache / name)
    if (line := refusal(lambda: find(STAGE, 0, [cache]))) is not None:
        assert line.endswith(f"; delete {(cache / name).parent} to have it made anew")
    else:
        saved = (one for one in FILES if not one.endswith("provenance.json"))
        assert all((cache / one).read_bytes() == (sound / one).read_bytes() for one in saved)
    shutil.rmtree(cache.parent)
