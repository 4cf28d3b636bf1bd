"""What an ablation varies: the axes of its command line, and the variants they span."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import product

from tacoskip.ablation.statistics import AA
from tacoskip.blocks import BLOCKS, SKIPS, TOPOLOGIES
from tacoskip.config import PARTS, Config, ConfigError, load_config
from tacoskip.config_checks import field_kinds
from tacoskip.messages import nearest

LAUNCHERS = ("local", "ray")
ALL = "all"


@dataclass(frozen=True)
class Variant:
    """One column of an ablation: its name, and its overrides of the recipe.

    sized: its stack's width may be solved to match the baseline's cost.
    """

    name: str
    overrides: tuple[str, ...] = ()
    sized: bool = True


@dataclass
class Request:
    """What `tacoskip ablate` is asked. `overrides` hold for every run.

    blocks, skips, topologies, depths: the axes; empty keeps what the recipe (or the family) says.
    without: parts of CBHG to leave out of the baseline, one a variant. seeds: runs of a variant.
    aa: blocks that run again as often with other seeds. jobs: runs at once (0: as many as fit).
    """

    recipe: str
    blocks: list[str]
    skips: list[str] = field(default_factory=list)
    topologies: list[str] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    seeds: int = 3
    aa: list[str] = field(default_factory=lambda: ["highway"])
    baseline: str = "highway"
    launcher: str = "local"
    jobs: int = 0
    overrides: list[str] = field(default_factory=list)


def read_request(pairs: list[str]) -> Request:
    """Read `recipe=R blocks=a,b skips=... seeds=3 key=value ...`.

    Raises ConfigError, in one line, for what is missing, unknown or no whole number.
    """
    own: dict[str, str] = {}
    overrides = []
    axes = [name for name in Request.__dataclass_fields__ if name != "overrides"]
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in axes:
            own[key] = value
        elif key in ("block", "skip", "topology", "seed", "depth"):
            plural = {"topology": "topologies"}.get(key, f"{key}s")
            raise ConfigError(f"'{key}' is what varies in an ablation; say {plural}={value}")
        else:
            if key not in field_kinds(Config) and (near := nearest(key, axes, cutoff=0.7)):
                raise ConfigError(f"unknown key '{key}'{near}")
            overrides.append(pair)
    for key, example in (("recipe", "fsdd"), ("blocks", "plain,residual (or all)")):
        if not own.get(key):
            raise ConfigError(f"expected {key}=..., e.g. {key}={example}")
    request = Request(own["recipe"], _names(own["blocks"]), overrides=overrides)
    if request.blocks == [ALL]:
        request.blocks = list(BLOCKS)
    request.skips, request.topologies, request.without = (
        _names(own.get(key, "")) for key in ("skips", "topologies", "without")
    )
    known = (
        *(("block", request.blocks, BLOCKS), ("skip", request.skips, SKIPS)),
        *(("topology", request.topologies, TOPOLOGIES), ("part", request.without, PARTS)),
    )
    for what, asked, names in known:
        for name in asked:
            _check(what, name, names)
    request.baseline = own.get("baseline", request.baseline)
    request.aa = [request.baseline] if "aa" not in own else _names(own["aa"], none=True)
    for name in (request.baseline, *request.aa):
        _check("block", name, BLOCKS)
    request.launcher = own.get("launcher", request.launcher)
    _check("launcher", request.launcher, LAUNCHERS)
    request.seeds = _whole("seeds", own.get("seeds", str(request.seeds)), least=1)
    request.jobs = _whole("jobs", own.get("jobs", "0"), least=0)
    request.depths = [_whole("depths", one, least=0) for one in _names(own.get("depths", ""))]
    return request


def variants(request: Request, base: Config) -> tuple[list[Variant], dict[str, str]]:
    """Return the variants, the baseline first, and the ones that do not fit together with the
    reason.

    base: the recipe with the request's overrides. Raises ConfigError where nothing is left to
    compare.
    """
    depth = base.cbhg.depth
    chosen = [Variant(request.baseline, (f"block={request.baseline}",))]
    refused: dict[str, str] = {}
    grid = product(
        request.blocks,
        request.skips or [""],
        request.topologies or [""],
        request.depths or [depth],
    )
    for block, skip, topology, units in grid:
        said = {key: value for key, value in (("skip", skip), ("topology", topology)) if value}
        name = ",".join([block, *(f"{key}={value}" for key, value in said.items())])
        overrides = (f"block={block}", *(f"{key}={value}" for key, value in said.items()))
        if units != depth:
            name += f",depth={units}"
            overrides += (f"cbhg.depth={units}", f"postnet.depth={units}")
        variant = Variant(name, overrides)
        if variant in chosen:
            continue
        try:
            load_config(request.recipe, [*request.overrides, *overrides])
        except ConfigError as error:
            refused[name] = str(error)
        else:
            chosen.append(variant)
    for part in request.without:
        overrides = (*chosen[0].overrides, f"without=[{part}]")
        chosen.append(Variant(f"without-{part}", overrides, sized=False))
    for block in request.aa:
        again = next((one for one in chosen if one.name == block), None)
        if again is None:
            raise ConfigError(f"aa={block} runs a block again that is not among blocks=")
        chosen.append(replace(again, name=block + AA))
    if len(chosen) == 1 + len(request.aa):
        alone = "nothing to compare: blocks= names the baseline alone"
        raise ConfigError(next(iter(refused.values()), alone))
    return chosen, refused


def _names(text: str, none: bool = False) -> list[str]:
    text = text.strip().removeprefix("[").removesuffix("]")
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    return [] if none and names == ["none"] else names


def _check(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        listed = ", ".join(known)
        raise ConfigError(f"unknown {what} '{name}'{nearest(name, known)} (known: {listed})")


def _whole(key: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"expected {key} as a whole number of at least {least}, got '{text}'")
    return int(text)
