"""The axes of `tacoskip ablate` and what they span."""

import pytest

from tacoskip.ablation.grid import read_request, variants
from tacoskip.blocks import BLOCKS
from tacoskip.config import ConfigError, load_config, with_block


def names(*pairs: str) -> list[str]:
    request = read_request(["recipe=smoke", *pairs])
    return [variant.name for variant in variants(request, load_config("smoke"))[0]]


def test_all_means_every_family_with_the_baseline_first_and_again() -> None:
    found = names("blocks=all")
    assert found[0] == "highway"
    assert found[-1] == "highway@aa"
    assert sorted(found[:-1]) == sorted(BLOCKS)


def test_axes_multiply_and_name_what_differs_from_the_recipe() -> None:
    found = names("blocks=plain,residual", "skips=add,gated", "depths=1,3", "aa=none")
    own = [f"{b},skip={s}" for b in ("plain", "residual") for s in ("add", "gated")]
    expected = ["highway", *(f"{name}{d}" for name in own for d in ("", ",depth=3"))]
    assert found == expected
    request = read_request(["recipe=smoke", "blocks=plain", "skips=gated", "depths=3"])
    (variant,) = (one for one in variants(request, load_config("smoke"))[0] if "," in one.name)
    config = load_config("smoke", list(variant.overrides))
    assert (config.block, config.skip, config.cbhg.depth, config.postnet.depth) == (
        *("plain", "gated"),
        *(3, 3),
    )


def test_parts_go_out_of_the_baseline_one_by_one() -> None:
    request = read_request(["recipe=smoke", "blocks=plain", "without=bank,stack,gru,residual"])
    found = {one.name: one for one in variants(request, load_config("smoke"))[0]}
    configs = {
        name: load_config("smoke", list(found[name].overrides))
        for name in found
        if name.startswith("without-")
    }
    places = {name: with_block(config.postnet, config) for name, config in configs.items()}
    assert {one.block for one in places.values()} == {"highway"}
    assert not places["without-bank"].bank
    assert places["without-stack"].depth == 0
    assert not places["without-gru"].gru
    assert not places["without-residual"].residual
    assert not found["without-gru"].sized


def test_what_does_not_fit_together_is_left_out_with_the_reason() -> None:
    request = read_request(["recipe=smoke", "blocks=plain,reversible", "skips=gated"])
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
        (["recipe=smoke", "blocks=plain", "seeds=0"], "at least 1"),
        (["recipe=smoke", "blocks=plain", "launcher=slurm"], "unknown launcher 'slurm'"),
        (["recipe=smoke", "blocks=plain", "without=grus"], "did you mean 'gru'?"),
        (["recipe=smoke", "blocks=plain", "aa=dense"], "not among blocks="),
        (["recipe=smoke", "blocks=plain", "block=dense"], "say blocks=dense"),
        (["recipe=smoke", "blocks=reversible", "skips=gated"], "only a sum"),
        (["recipe=smoke", "blocks=highway"], "nothing to compare"),
    ],
)
def test_a_wrong_request_is_one_line(pairs: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")) as error:
        variants(read_request(pairs), load_config("smoke"))
    assert "\n" not in str(error.value)
