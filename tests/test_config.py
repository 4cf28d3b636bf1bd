"""Settings: the order of layers, what is refused, one-line errors that say what to do."""

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from tacoskip.config import (
    Config,
    ConfigError,
    cbhgs_of,
    from_dict,
    load_arguments,
    load_config,
    save_config,
    to_dict,
    to_yaml,
)
from tacoskip.messages import without_secrets
from tacoskip.recipe_files import read_yaml
from tacoskip.settings import check

from .conftest import refusal


def load_saved(path: Path) -> Config:
    return from_dict(read_yaml(path), str(path))


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("train.learning_rate=1e-3", "learning_rate", 0.001),
        ("train.learning_rate=2", "learning_rate", 2.0),
        ("train.max_steps=1e5", "max_steps", 100_000),
        ("train.max_minutes=7", "max_minutes", 7.0),
        ("train.deterministic=true", "deterministic", True),
        ("train.sentences=[one two, three]", "sentences", ["one two", "three"]),
    ],
)
def test_override_is_converted_to_the_type_of_its_key(pair: str, key: str, value: object) -> None:
    found = getattr(load_config("smoke", [pair]).train, key)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["007", "1e3", "no", "null", "a=b", "[x]", "with space", "x: y"])
def test_text_override_is_not_parsed(text: str) -> None:
    assert load_config("smoke", [f"data.root={text}"]).data.root == text


def test_configs_share_no_lists() -> None:
    load_config("fsdd").data.join.append(9)
    assert load_config("fsdd").data.join == [1, 5]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.max_step", "train.max_steps"),
        ("trian.max_steps", "train.max_steps"),
        ("max_steps", "train.max_steps"),
        ("learning_rte", "train.learning_rate"),
        ("cbgh.bank_size", "cbhg.bank_size"),
        ("blok", "block"),
        ("data..root", "data.root"),
        ("seeed", "seed"),
    ],
)
def test_misspelt_key_suggests_the_nearest(key: str, meant: str) -> None:
    message = refusal("smoke", f"{key}=1")
    assert f"unknown key '{key}'; did you mean '" in message
    assert meant in message


def test_unknown_key_lists_the_sections() -> None:
    assert "sections: audio, text, data" in refusal("smoke", "zzzzqq.yyyy=1")


@pytest.mark.parametrize(
    ("pair", "expected", "got"),
    [
        ("train.max_steps=many", "a whole number for 'train.max_steps'", "'many'"),
        ("train.max_steps=1.5", "a whole number", "1.5"),
        ("train.max_steps=true", "a whole number", "True"),
        ("train.learning_rate=fast", "a number", "'fast'"),
        ("train.learning_rate=", "a number", "nothing"),
        ("train.deterministic=maybe", "true or false", "'maybe'"),
        ("data.join=5", "a list", "5"),
        ("data.join=[1, [2]]", "a list", "[1, [2]]"),
        ("tts.reduction_schedule=[1, 2]", "a list [...] of lists", "[1, 2]"),
        ("train.sentences=[a: b", "a list [...] of texts", "'[a: b'"),
        (
            "train.max_steps.more=1",
            "a whole number for 'train.max_steps'",
            "'train.max_steps.more'",
        ),
        ("block_options=3", "options as {name: value}", "3"),
    ],
)
def test_wrong_type_names_key_expected_and_got(pair: str, expected: str, got: str) -> None:
    message = refusal("smoke", pair)
    assert f"expected {expected}" in message
    assert f"got {got}" in message


@pytest.mark.parametrize("pair", ["train=5", "train=", "audio={sample_rate: 8000}"])
def test_section_does_not_accept_a_value(pair: str) -> None:
    assert "is a section of keys" in refusal("smoke", pair)


@pytest.mark.parametrize(
    "pair", ["a\nb", "a\nb=1", "train.max_steps=a\nb", "block=a\nb", "block=a\u2028b"]
)
def test_error_is_one_line_for_keys_with_line_breaks(pair: str) -> None:
    assert len(refusal("smoke", pair).splitlines()) == 1


@pytest.mark.parametrize("pair", ["seed", "=3", ""])
def test_override_without_equals_is_refused(pair: str) -> None:
    assert refusal("smoke", pair) == f"expected key=value, got '{pair}'"


@pytest.mark.parametrize(
    ("pair", "near"),
    [
        ("block=highwy", "highway"),
        ("task=ts", "tts"),
        ("text.symbols=phoneme", "phonemes"),
        ("train.precision=bf61", "bf16"),
        ("train.select=mcd", "mcd_db"),
        ("train.device=cdua", "cuda"),
        ("tts.attention=forwrad", "forward"),
    ],
)
def test_unknown_choice_suggests_the_nearest_and_lists_all(pair: str, near: str) -> None:
    key, _, value = pair.partition("=")
    message = refusal("smoke", pair)
    assert f"unknown {key} '{value}'; did you mean '{near}'? (known: " in message


@pytest.mark.parametrize(
    "pair",
    [
        *("data.max_batch=0", "train.keep=0", "cbhg.channels=0", "train.clip_norm=0"),
        "without=[bnak]",
        "asr.subsampling=3",
        "augment.speed=[3]",
        "train.learning_rate=nan",
        "train.learning_rate=.inf",
        "train.keep=-1",
        "data.join=[3, 2]",
        "data.join=[0, 2]",
        "data.join=[2]",
        "tts.prenet_dropout=1",
        "tts.prenet_channels=[0]",
        "tts.prenet_channels=[1000000000000]",
        "cbhg.channels=1000000000000",
        "cbhg.channels=99999999999999999999999",
        "cbhg.depth=100000000",
        "train.max_steps=1e30",
        "tts.reduction_schedule=[[5, 2]]",
        "tts.reduction_schedule=[[0, 2], [0, 1]]",
        "tts.reduction_schedule=[[0, 0]]",
    ],
)
def test_value_out_of_bounds_is_refused(pair: str) -> None:
    assert pair.partition("=")[0] in refusal("smoke", pair)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("audio.sample_rate=0", "audio: expected sample_rate"),
        ("audio.f_max=9000", "audio: expected 0 <= f_min < f_max <= 4000 Hz"),
        ("audio.preemphasis=1", "audio: expected preemphasis below 1, got 1"),
        ("griffin_lim.sharpening=0", "griffin_lim: expected sharpening"),
        ("griffin_lim.iterations=1000000000", "griffin_lim: expected iterations of at most 1000"),
        ("audio.window_ms=.inf", "audio: "),
        ("data.root=${nowhere}", "'data.root': expected plain values, got an interpolation"),
    ],
)
@pytest.mark.hostile
def test_error_of_a_section_names_it(pair: str, message: str) -> None:
    assert message in refusal("smoke", pair)


def test_run_without_recipe_loads_its_saved_settings(tmp_path: Path) -> None:
    config = load_config("smoke", [f"run={tmp_path}", "seed=7"])
    save_config(config, tmp_path / "config.yaml")
    assert load_arguments([f"run={tmp_path}"]) == config
    assert load_arguments([f"run={tmp_path}", "train.max_steps=9"]).train.max_steps == 9
    with pytest.raises(ConfigError, match="'nowhere' is no run folder to resume"):
        load_arguments(["run=nowhere"])


@pytest.mark.parametrize(
    ("seed", "message"),
    [("-1", "seed of at least 0, got -1"), ("4294967296", "seed of at most 4294967295, got 42")],
)
def test_seed_out_of_range_is_refused(seed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("smoke", [f"seed={seed}"])


def test_home_is_expanded_in_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    keys = ("run", "data.root", "data.dir", "data.shards")
    config = load_config("smoke", [*(f"{key}=~/{key}" for key in keys), "train.judge=a/~b"])
    assert config.run == "/home/ann/run" and config.train.judge == "a/~b"
    assert (config.data.root, config.data.dir) == ("/home/ann/data.root", "/home/ann/data.dir")
    assert config.data.shards == "/home/ann/data.shards"


def test_saved_config_loads_equal(tmp_path: Path) -> None:
    config = load_config("smoke", ["data.root=007", "block_options.skip_gate_bias=-2", "seed=3"])
    config.train.sentences = ["zero: one", "it's \N{LATIN SMALL LETTER E WITH ACUTE}t\u00e9", "no"]
    save_config(config, tmp_path / "config.yaml")
    assert load_saved(tmp_path / "config.yaml") == config
    # Read by a plain yaml reader: no tags, no objects, only what was meant.
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == to_dict(config) == asdict(config)
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("seed: [", "not a yaml of settings"),
        ("train: {max_step: 5}", "did you mean 'train.max_steps'?"),
        ("train: {max_steps: 0}", "expected train.max_steps above 0"),
        ("train: {deterministic: true, max_minutes: 5}", "expected train.max_minutes=0 with train"),
        ("data: {root: '${oc.env:HOME}'}", "interpolation"),
        ("!!python/object/apply:os.system ['true']", "not a yaml of settings"),
        ("\x00\x01", "not a yaml of settings"),
    ],
)
def test_damaged_saved_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    if not text:  # an older version may have had fewer keys: defaults stand in for what is absent
        assert load_saved(path) == Config()
        return
    with pytest.raises(ConfigError) as caught:
        load_saved(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.hostile
def test_secrets_of_an_address_are_not_stored(tmp_path: Path) -> None:
    address = "https://ann:hidden@example.org/a/b?token=hidden"
    pairs = [f"data.root={address}", "data.shards=s3://key:hidden@bucket/a", f"from={address}"]
    config = load_config("smoke", pairs)
    assert config.data.root == address, "as given, for this process"
    save_config(config, tmp_path / "config.yaml")
    stored = load_saved(tmp_path / "config.yaml")
    assert "hidden" not in (tmp_path / "config.yaml").read_text() + to_yaml(config)
    assert stored.data.root == "https://example.org/a/b"
    assert stored.data.shards == "s3://bucket/a"


@pytest.mark.hostile
@pytest.mark.parametrize(
    "address",
    ["me:S@h/x", "S@h/x", "me:a/S@h/x", "me:a@/S@h/x", "me:a?S@h/x", "h/x?S", "h/x#S", "h/x;t=S"],
)
def test_secrets_of_an_address_are_found(address: str) -> None:
    assert without_secrets(f"https://{address}") == "https://h/x"
    assert without_secrets("https://h:80/@a/x") == "https://h:80/@a/x"


def test_missing_saved_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_saved(tmp_path / "config.yaml")


def test_every_setting_has_help_and_a_default_within_its_bounds() -> None:
    sections = [value for value in vars(Config()).values() if is_dataclass(value)]
    for section in (Config(), *sections):
        check(section)
        for field in fields(section):
            if is_dataclass(getattr(section, field.name)) or field.name in ("recipe", "from_run"):
                continue
            assert field.metadata["setting"].help.endswith("."), field.name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["block=dense", "skip=add"], "dense joins by concat, got 'add'"),
        (["block=residual", "topology=reversible", "cbhg.channels=7"], "even width"),
        (["block=residual", "block_options.kernel=3"], "has no option 'kernel'"),
        (["skip=gatd"], "did you mean 'gated'"),
        (["tts.attention=durations", "data.join=[1, 3]"], r"data.join=\[1, 1\] with tts.attention"),
    ],
)
def test_block_that_cannot_be_built_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("smoke", overrides)


def test_block_must_fit_the_cbhgs_of_the_task_only() -> None:
    """A width of 70 in the recognizer would be 93 in the post-net that it does not have."""
    wide = ["block=reversible", "cbhg.channels=96", "block_options.width=0.7265625"]
    (settings,) = cbhgs_of(load_config("smoke_asr", wide))
    assert settings.stack_channels == 70
    with pytest.raises(ConfigError, match="even width"):
        load_config("smoke", [*wide, "postnet.channels=128"])


def test_without_removes_parts_of_both_cbhgs() -> None:
    config = load_config("smoke", ["block=bottleneck", "skip=gated", "without=[gru, stack]"])
    for settings in cbhgs_of(config):
        assert (settings.block, settings.skip, settings.depth) == ("bottleneck", "gated", 0)
        assert (settings.bank, settings.residual, settings.gru) == (True, True, False)
