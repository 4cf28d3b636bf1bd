"""`blocks`, `recipes`, `settings`, `config` and `board`: what there is."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tacoskip.cli.arguments import Settings, require_runs
from tacoskip.cli.console import Result, command, emit, log, standard_output, table

LARGEST_STACK = 1 << 26  # channels squared times units; each is some weights of 4 bytes
SHOWN_AT_FIRST = 40  # runs whose curves TensorBoard shows unasked


@command
def board(
    runs: Annotated[str, typer.Argument(metavar="RUNS_DIR", help="A folder of runs.")] = "runs",
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "localhost",
    port: Annotated[
        int, typer.Option(help="Port to serve on; 0: a free one.", min=0, max=65535)
    ] = 6006,
) -> None:
    """Show TensorBoard on the runs until Ctrl-C."""
    require_runs(runs)
    count = len({path.parent for path in Path(runs).rglob("*tfevents*")})
    if count > SHOWN_AT_FIRST:
        log(f"{count} runs: Scalars and Custom Scalars stay empty until TOGGLE ALL RUNS is pressed")
    if not count:
        log(f"no run in '{runs}' has curves yet; they appear when a run logs them", warning=True)
    from threading import Event

    from tensorboard import program

    server = program.TensorBoard()
    server.configure(logdir=runs, host=host, port=port)
    try:
        url = server.launch()
    except program.TensorBoardServerException as error:
        raise RuntimeError(f"{error.msg} (choose another --port)") from None
    except SystemExit:  # raised by werkzeug after a line of its own
        raise ValueError(f"expected --host, an address of this machine, got '{host}'") from None
    try:
        emit(f"TensorBoard on {runs}: {url} (Ctrl-C ends it)")
        standard_output().flush()
        Event().wait()
    except KeyboardInterrupt:
        log("ended")


@command
def blocks(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One family, described in full.")
    ] = None,
    channels: Annotated[int, typer.Option(help="Width of the stack.", min=1, max=2048)] = 128,
    depth: Annotated[int, typer.Option(help="Units in the stack.", min=1, max=1000)] = 4,
) -> Result:
    """List the families of skip connections, or describe one.

    Cost of a stack: parameters, multiply-adds a mel frame, frames that one output frame depends on,
    milliseconds for 200 frames on this CPU, and the correlation of input and output before
    training: 1 starts as the identity.
    """
    if channels**2 * depth > LARGEST_STACK:
        got = f"{channels}, --depth {depth}"
        raise ValueError(f"expected fewer --channels or a smaller --depth, got --channels {got}")
    from tacoskip.blocks import all_families, find_family

    warn = partial(log, warning=True)
    families = {name: find_family(name)} if name else all_families(warn)
    described = {each: _family(each, one, channels, depth) for each, one in families.items()}
    title = f"{depth} units, {channels} channels; MACs a frame, frames seen, ms for 200 frames"
    costs = [
        [
            *(each, f"{one['parameters']:,}", f"{one['macs_per_frame']:,}"),
            *(str(one["receptive_field"] or "all"), f"{one['latency_ms']:.1f}"),
            f"{one['initial_correlation'] + 0.0:.2f}",
        ]
        for each, one in described.items()
    ]
    if name:
        parts = ("formula", "source", "transform", "skip", "topology")
        rows = [[key, str(described[name][key])] for key in parts]
        options = described[name]["options"].items()
        rows += [[f"block_options.{key}", str(value)] for key, value in options]
        first = table(["block", name], rows, wrap=(name,))
    else:
        formulas = [[each, one["formula"]] for each, one in described.items()]
        first = table(["block", "formula"], formulas, wrap=("formula",))
    second = table(["block", "parameters", "MACs", "seen", "ms", "corr"], costs, title=title)
    hint = f"try it: tacoskip train recipe=fsdd block={name or 'residual'}"
    values = {"channels": channels, "depth": depth, "blocks": described}
    return Result(values, [first, second, hint])


@command
def recipes() -> Result:
    """List the recipes."""
    from tacoskip.config import load_config
    from tacoskip.recipe_files import find_recipe, known_recipes

    found = list[dict[str, str]]()
    for name in known_recipes():
        config, lines = load_config(name), find_recipe(name).read_text("utf-8").splitlines()
        comments = [line.lstrip("# ") for line in lines[:3] if line.startswith("#")]
        summary = " ".join(comments).partition(". ")[0].rstrip(".") + "."
        one = {"name": name, "task": config.task, "corpus": config.data.corpus, "summary": summary}
        found.append(one)
    columns = ["recipe", "task", "corpus", "what it is for"]
    rows = [list(one.values()) for one in found]
    return Result({"recipes": found}, [table(columns, rows, wrap=(columns[-1],))])


@command
def settings(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="Only settings that contain it.")
    ] = None,
) -> Result:
    """List the settings with defaults, choices and help."""
    from tacoskip.config import Config
    from tacoskip.config_checks import all_settings
    from tacoskip.messages import nearest

    everything = list(all_settings(Config()))
    wanted, found, rows = (word or "").lower(), list[dict[str, Any]](), list[list[str]]()
    for key, value, one in everything:
        if wanted in key or wanted in one.help.lower():
            choices = list(one.names)
            found.append({"setting": key, "default": value, "help": one.help, "choices": choices})
            names = ", ".join(filter(None, choices))
            rows.append([key, _shown(value), f"{one.help} One of: {names}." if names else one.help])
    if not found:
        hint = nearest(wanted, [key for key, _, _ in everything])
        raise ValueError(f"no setting contains '{word}'{hint}")
    columns = ["setting", "default", "meaning"]
    return Result({"settings": found}, [table(columns, rows, wrap=("default", "meaning"))])


@command
def config(settings: Settings = None) -> None:
    """Print the settings that a recipe resolves to, as yaml."""
    from tacoskip.config import load_arguments, to_yaml

    emit(to_yaml(load_arguments(settings or [])).rstrip("\n"))


def _family(name: str, family: Any, channels: int, depth: int) -> dict[str, Any]:
    """Return what a family is made of and what a stack of it costs."""
    from tacoskip.blocks import build_block, cost

    stack = build_block(name, channels, depth)
    formula, source = family.described()
    axes = {axis: getattr(family, axis) for axis in ("transform", "skip", "topology")}
    return {
        "formula": formula,
        "source": source,
        **{axis: part if isinstance(part, str) else part.__name__ for axis, part in axes.items()},
        "options": family.defaults(),
        "parameters": cost.parameters(stack),
        "macs_per_frame": round(cost.macs_per_frame(stack, channels)),
        "receptive_field": cost.receptive_field(stack, channels),
        "initial_correlation": round(cost.initial_correlation(stack, channels), 2),
        "latency_ms": round(cost.latency_ms(stack, channels), 2),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)
