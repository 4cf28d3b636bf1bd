"""`blocks`, `recipes`, `settings`, `config`, `doctor` and `board`: what there is."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tacoskip.cli.arguments import Json, Settings, require_runs
from tacoskip.cli.console import emit_json, emit_table, guarded, log, working

SHOWN_AT_FIRST = 40  # runs whose curves TensorBoard shows unasked


@guarded
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
    with working():
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
        print(f"TensorBoard on {runs}: {url} (Ctrl-C ends it)", flush=True)
        Event().wait()
    except KeyboardInterrupt:
        log("ended")


@guarded
def blocks(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One family, described in full.")
    ] = None,
    channels: Annotated[int, typer.Option(help="Width of the stack.", min=1, max=2048)] = 128,
    depth: Annotated[int, typer.Option(help="Units in the stack.", min=1, max=1000)] = 4,
    json: Json = False,
) -> None:
    """List the families of skip connections, or describe one.

    Cost of a stack: parameters, multiply-adds a mel frame, frames that one output frame depends on,
    milliseconds for 200 frames on this CPU, and the correlation of input and output before
    training: 1 starts as the identity.
    """
    with working():
        from tacoskip.blocks import all_families, find_family

        warn = partial(log, warning=True)
        families = {name: find_family(name)} if name else all_families(warn)
        described = {each: _family(each, one, channels, depth) for each, one in families.items()}
    if json:
        emit_json({"channels": channels, "depth": depth, "blocks": described})
        return
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
        emit_table(["block", name], rows, wrap=(name,))
    else:
        formulas = [[each, one["formula"]] for each, one in described.items()]
        emit_table(["block", "formula"], formulas, wrap=("formula",))
    emit_table(["block", "parameters", "MACs", "seen", "ms", "corr"], costs, title=title)
    print(f"try it: tacoskip train recipe=fsdd block={name or 'residual'}")


@guarded
def recipes(json: Json = False) -> None:
    """List the recipes."""
    with working():
        from tacoskip.config import load_config
        from tacoskip.recipe_files import find_recipe, known_recipes

        found = list[tuple[str, ...]]()
        for name in known_recipes():
            config, lines = load_config(name), find_recipe(name).read_text("utf-8").splitlines()
            comments = [line.lstrip("# ") for line in lines[:3] if line.startswith("#")]
            summary = " ".join(comments).partition(". ")[0].rstrip(".") + "."
            found.append((name, config.task, config.data.corpus, summary))
    if json:
        names = ("name", "task", "corpus", "summary")
        emit_json({"recipes": [dict(zip(names, one, strict=True)) for one in found]})
        return
    columns = ["recipe", "task", "corpus", "what it is for"]
    emit_table(columns, [list(one) for one in found], wrap=(columns[-1],))


@guarded
def settings(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="Only settings that contain it.")
    ] = None,
    json: Json = False,
) -> None:
    """List the settings with defaults, choices and help."""
    with working():
        from tacoskip.config import Config
        from tacoskip.config_checks import all_settings
        from tacoskip.messages import nearest

        everything = list(all_settings(Config()))
        wanted = (word or "").lower()
        found = [
            {"setting": key, "default": value, "help": one.help, "choices": list(one.names)}
            for key, value, one in everything
            if wanted in key or wanted in one.help.lower()
        ]
        if not found:
            hint = nearest(wanted, [key for key, _, _ in everything])
            raise ValueError(f"no setting contains '{word}'{hint}")
    if json:
        emit_json({"settings": found})
        return
    rows = [[one["setting"], _shown(one["default"]), _with_choices(one)] for one in found]
    emit_table(["setting", "default", "meaning"], rows, wrap=("default", "meaning"))


@guarded
def config(settings: Settings = None) -> None:
    """Print the settings that a recipe resolves to, as yaml."""
    with working():
        from tacoskip.config import load_arguments, to_yaml

        text = to_yaml(load_arguments(settings or []))
    print(text, end="")


@guarded
def doctor(json: Json = False) -> None:
    """Report what is installed and what does not work here."""
    from tacoskip.cli.doctor import examine

    with working():
        findings = examine()
    if json:
        healthy = all(f.ok is not False for f in findings)
        emit_json({"healthy": healthy, "checks": [f._asdict() for f in findings]})
        return
    words = {True: "ok", None: "note", False: "BROKEN"}
    emit_table(["", "", ""], [[words[f.ok], f.name, f.detail] for f in findings], wrap=("",))


def _family(name: str, family: Any, channels: int, depth: int) -> dict[str, Any]:
    """Return what a family is made of and what a stack of it costs."""
    from tacoskip.blocks import build_block, cost

    stack = build_block(name, channels, depth)
    formula, source = family.described()
    return {
        "formula": formula,
        "source": source,
        **{axis: _axis(getattr(family, axis)) for axis in ("transform", "skip", "topology")},
        "options": family.defaults(),
        "parameters": cost.parameters(stack),
        "macs_per_frame": round(cost.macs_per_frame(stack, channels)),
        "receptive_field": cost.receptive_field(stack, channels),
        "initial_correlation": round(cost.initial_correlation(stack, channels), 2),
        "latency_ms": round(cost.latency_ms(stack, channels), 2),
    }


def _axis(part: Any) -> str:
    """Return the name of a part of a family: its key, or that of a class from outside."""
    return part if isinstance(part, str) else str(part.__name__)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _with_choices(setting: dict[str, Any]) -> str:
    names = [name for name in setting["choices"] if name]
    return f"{setting['help']} One of: {', '.join(names)}." if names else str(setting["help"])
