"""The arguments of `tacoskip ablate` and the variants they span."""

import pytest

from tacoskip.ablation.request import Request, parse_request, resolve, variants
from tacoskip.blocks import BLOCKS
from tacoskip.config import load_config, with_block
from tacoskip.config_checks import ConfigError


def names(*pairs: str) -> list[str]:
    request = parse_request(["recipe=smoke", *pairs])
    return [variant.name for variant in variants(request, load_config("smoke"))[0]]


def test_blocks_all_selects_every_family_and_an_aa_variant() -> None:
    found = names("blocks=all")
    assert found[0] == "highway"
    assert found[-1] == "highway@aa"
    assert sorted(found[:-1]) == sorted(BLOCKS)


def test_axes_multiply_and_names_list_what_differs() -> None:
    found = names("blocks=plain,residual", "skips=add,gated", "depths=1,3", "aa=none")
    own = [f"{b},skip={s}" for b in ("plain", "residual") for s in ("add", "gated")]
    expected = ["highway", *(f"{name}{d}" for name in own for d in ("", ",depth=3"))]
    assert found == expected
    request = parse_request(["recipe=smoke", "blocks=plain", "skips=gated", "depths=3"])
    (variant,) = (one for one in variants(request, load_config("smoke"))[0] if "," in one.name)
    config = load_config("smoke", list(variant.overrides))
    assert (config.block, config.skip, config.cbhg.depth, config.postnet.depth) == (
        *("plain", "gated"),
        *(3, 3),
    )


def test_depths_of_a_recognizer_leave_the_postnet_alone() -> None:
    request = parse_request(["recipe=smoke_asr", "blocks=plain", "depths=3", "aa=none"])
    _, variant = variants(request, load_config("smoke_asr"))[0]
    assert variant.overrides == ("block=plain", "cbhg.depth=3")
    assert load_config("smoke_asr", list(variant.overrides)).cbhg.depth == 3


def test_without_removes_one_part_per_variant() -> None:
    request = parse_request(["recipe=smoke", "blocks=plain", "without=bank,stack,gru,residual"])
    found = {one.name: one for one in variants(request, load_config("smoke"))[0]}
    configs = {
        name: load_config("smoke", list(found[name].overrides))
        for name in found
        if name.startswith("without-")
    }
    postnets = {name: with_block(config.postnet, config) for name, config in configs.items()}
    assert {one.block for one in postnets.values()} == {"highway"}
    assert not postnets["without-bank"].bank
    assert postnets["without-stack"].depth == 0
    assert not postnets["without-gru"].gru
    assert not postnets["without-residual"].residual
    assert not found["without-gru"].resized


def test_combination_that_does_not_fit_is_refused_with_reason() -> None:
    request = parse_request(["recipe=smoke", "blocks=plain,reversible", "skips=gated"])
    chosen, refused = variants(request, load_config("smoke"))
    assert "plain,skip=gated" in [one.name for one in chosen]
    assert "only a sum can be taken back" in refused["reversible,skip=gated"]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "expected recipe=..."),
        (["recipe=smoke"], "expected blocks=..."),
        (["recipe=smoke", "blocks=residal"], "did you mean 'residual'?"),
        (["recipe=smoke", "blocks=plain", "sedes=2"], "unknown key 'sedes'; did you mean 'seeds'?"),
        (["recipe=smoke", "blocks=plain", "skips=ad"], "did you mean 'add'?"),
        (["recipe=smoke", "blocks=plain", "seeds=none"], "expected seeds as a whole number"),
        (["recipe=smoke", "blocks=plain", "seeds=3..x"], "expected seeds as a whole number, got"),
        (["recipe=smoke", "blocks=plain", "seeds=5..3"], "expected seeds=LEAST..MOST, got 5..3"),
        (["recipe=smoke", "blocks=plain", "margin=-1"], "expected margin of 0 to 1000"),
        (["recipe=smoke", "blocks=plain", "margin=nan"], "expected margin of 0 to 1000, got nan"),
        (["recipe=smoke", "blocks=plain", "seeds=0"], "expected seeds of 1 to 1000, got 0"),
        (["recipe=smoke", "blocks=plain", "seeds=1000000000000"], "expected seeds of 1 to 1000"),
        (["recipe=smoke", "blocks=plain", "seeds=3..9999"], "expected most_seeds of 0 to 1000"),
        (["recipe=smoke", "blocks=plain", "launcher=slrum"], "did you mean 'slurm'?"),
        (["recipe=smoke", "blocks=plain", "runs_per_job=2"], "needs launcher=slurm, got local"),
        (["recipe=smoke", "blocks=plain", "check=stak"], "did you mean 'stack'?"),
        (["recipe=smoke", "blocks=plain", "check=stack", "seeds=1"], "needs seeds=2 or more"),
        (["recipe=smoke", "recipe=fsdd", "blocks=plain"], "expected recipe= once"),
        (["recipe=smoke", "blocks=plain", "without=grus"], "did you mean 'gru'?"),
        (["recipe=smoke", "blocks=plain", "aa=dense"], "expected a block that is among blocks="),
        (["recipe=smoke", "blocks=plain", "block=dense"], "use blocks=dense"),
        (["recipe=smoke", "blocks=reversible", "skips=gated"], "only a sum"),
        (["recipe=smoke", "blocks=highway"], "nothing to compare"),
    ],
)
def test_wrong_request_is_an_error_of_one_line(pairs: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")) as error:
        variants(parse_request(pairs), load_config("smoke"))
    assert "\n" not in str(error.value)


def test_seeds_double_up_to_the_most() -> None:
    request = parse_request(["recipe=smoke", "blocks=plain", "seeds=3..10", "baseline_seeds=auto"])
    assert (request.schedule, request.baseline_seeds) == ([3, 6, 10], 0)
    assert parse_request(["recipe=smoke", "blocks=plain", "margin=1.5"]).schedule == [3]


def test_request_without_a_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no budget for an ablation; give train\.max_steps=N"):
        resolve(parse_request(["recipe=ljspeech", "blocks=plain"]))


def test_resolved_overrides_are_the_recipe_s_then_the_user_s() -> None:
    request, base = resolve(Request("fsdd", ["plain"], overrides=["train.max_steps=7"]))
    assert (base.train.max_steps, base.train.max_minutes, base.match) == (7, 0, "params")
    assert base.run == "runs/fsdd-ablation"
    assert resolve(request) == (request, base)


def test_check_adds_the_baseline_without_its_stack_and_start_is_an_option_of_all() -> None:
    found = names("blocks=plain", "aa=none", "check=stack", "without=stack")
    assert found == ["highway", "plain", "without-stack"]
    request, base = resolve(parse_request(["recipe=fsdd", "blocks=plain", "start=identity"]))
    assert base.block_options == {"start": "identity"}
    assert resolve(request) == (request, base)


def test_external_family_needs_no_entry_in_the_registry() -> None:
    assert Request("smoke", ["my_package.my_module:MyFamily"]).blocks


def test_request_in_python_is_checked_as_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match="did you mean 'residual'"):
        Request("smoke", ["residal"])
