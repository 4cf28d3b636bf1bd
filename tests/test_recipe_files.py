"""Recipe files: layers, bases, interpolation, and files that are refused."""

from itertools import pairwise
from pathlib import Path

import pytest

from tacoskip.config import (
    Config,
    ConfigError,
    load_arguments,
    load_config,
)
from tacoskip.recipe_files import known_recipes

from .conftest import refusal


def write(folder: Path, **recipes: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with its own recipes/."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes"
    folder.mkdir()
    return folder


def test_later_layer_overrides_earlier_ones(recipes: Path) -> None:
    write(recipes, low="task: tts\ntrain: {keep: 5, log_every: 7, max_steps: 1}\nseed: 3")
    write(recipes, middle="base: low\ntrain: {keep: 6, log_every: 8}")
    write(recipes, high="base: middle\ntrain: {keep: 9}")
    config = load_config("high", ["train.keep=11"])
    assert (config.train.keep, config.train.log_every, config.train.max_steps) == (11, 8, 1)
    assert (config.seed, config.recipe, config.run) == (3, "high", "runs/high")
    assert config.train.clip_norm == Config().train.clip_norm


def test_base_is_found_beside_its_recipe_or_by_name(tmp_path: Path) -> None:
    write(tmp_path, mine="base: ./elder\nseed: 1", elder="base: smoke\nseed: 2\ntrain: {keep: 8}")
    config = load_config(str(tmp_path / "mine.yaml"))
    assert (config.recipe, config.seed, config.train.keep) == ("mine", 1, 8)
    assert config.data.corpus == "folder"


def test_circular_bases_are_refused(recipes: Path) -> None:
    write(recipes, a="base: b", b="base: a")
    assert "circle" in refusal("a")


def test_lists_are_replaced_and_options_merged(recipes: Path) -> None:
    write(
        recipes,
        low="task: tts\ndata: {join: [1, 5]}\nblock: bottleneck\nblock_options: {reduction: 2}",
    )
    write(recipes, high="base: low\ndata: {join: [2, 3]}")
    config = load_config("high", ["block_options.kernel_size=5"])
    assert config.data.join == [2, 3]
    assert config.block_options == {"reduction": 2, "kernel_size": 5}
    assert isinstance(config.block_options["kernel_size"], int)


def test_unknown_recipe_suggests_the_nearest_and_lists_all() -> None:
    message = refusal("ljspech")
    assert "did you mean 'ljspeech'?" in message
    assert all(name in message for name in known_recipes())


def test_missing_recipe_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"expected recipe=NAME, got none \(known: arctic, "):
        load_arguments(["seed=1"])


def test_recipe_argument_has_no_fixed_position() -> None:
    assert load_arguments(["seed=4", "recipe=smoke"]).seed == 4


def test_two_recipes_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one recipe=NAME, got 2: smoke, fsdd"):
        load_arguments(["recipe=smoke", "recipe=fsdd"])


def test_missing_recipe_file_is_refused() -> None:
    assert "no recipe file 'gone.yaml'" in refusal("gone.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: tts\ntrain: {max_step: 5}", "did you mean 'train.max_steps'?"),
        ("task: tts\ntrain: {max_steps: many}", "expected a whole number"),
        ("task: tts\ntrain: 5", "is a section"),
        ("task: tts\ntrian: {}", "unknown key 'trian'"),
        ("seed: 1", "expected a base or a task, got neither; add 'base: base/tts'"),
        ("a: b: c", "(line 1)"),
        ("- a list", "expected lines of 'key: value', got list"),
        ("|\n  1", "expected lines of 'key: value', got '1'"),
        ("text", "expected lines of 'key: value', got 'text'"),
        ("base: [x]", "expected a recipe's name for 'base'"),
        ("seed: 1\nseed: 2", "duplicate key"),
        ("!!python/object/apply:os.system ['true']", "not a yaml of settings"),
        ("\ttab: 1", "not a yaml of settings"),
        ("a: &a [*a]", "not a yaml of settings"),
        ("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{9 * f'*a{n - 1},'}]\n" for n in range(1, 9)),
         "expected at most 16 aliases"),
        ("a: x" + " " * (1 << 20), "expected at most 1,048,576 bytes"),
        ("a: " + 3000 * "[" + 3000 * "]", "nested too deep"),
        ("a: " + 300_000 * "[", "nested too deep"),
        ("train: {max_steps: " + 5000 * "9" + "}", "not a yaml of settings"),
    ],
)  # fmt: skip
@pytest.mark.hostile
def test_invalid_recipe_file_is_named(recipes: Path, text: str, message: str) -> None:
    write(recipes, bad=text)
    found = refusal("bad")
    assert "bad.yaml: " in found
    assert message in found


@pytest.mark.hostile
def test_only_own_keys_interpolate(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    write(recipes, own="task: tts\nseed: 5\nrun: 'runs/${block}-${seed}'")
    assert load_config("own", ["block=residual"]).run == "runs/residual-5"
    for text in ("${oc.env:SECRET}", "${oc.decode:'1'}", "${data}", "${data.root}", "${seed"):
        write(recipes, other=f'task: tts\nseed: 5\ndata: {{root: "{text}"}}')
        message = refusal("other")
        assert "got an interpolation" in message and "hidden" not in message


@pytest.mark.hostile
def test_interpolations_that_grow_are_refused(recipes: Path) -> None:
    keys = ["run", *(f"data.{name}" for name in ("root", "dir", "shards", "subset", "speaker"))]
    lines = [f"  {key[5:]}: '{10 * f'${{{before}}}'}'" for before, key in pairwise(keys)]
    write(recipes, grow="\n".join(["task: tts", "run: a123456789", "data:", *lines]))
    assert "'data.subset': expected at most 10,000 characters, got more" in refusal("grow")


def test_recipe_that_is_not_utf8_is_refused(recipes: Path) -> None:
    (recipes / "bad.yaml").write_bytes(b"seed: \xff\xfe\x00")
    assert "bad.yaml: not a yaml of settings" in refusal("bad")


def test_empty_section_changes_nothing(recipes: Path) -> None:
    write(recipes, bare="task: tts\nseed: 5\ntrain:\n")
    assert load_config("bare").train == Config().train
