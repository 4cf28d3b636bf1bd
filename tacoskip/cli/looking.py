"""`board`, `blocks` and `doctor`: what there is to see, in runs, in the stacks and here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tacoskip.cli.arguments import Json, require_runs
from tacoskip.cli.console import emit_json, emit_table, guarded, say, working

SHOWN_AT_FIRST = 40  # runs whose curves TensorBoard shows unasked


@guarded
def board(
    runs: Annotated[str, typer.Argument(metavar="RUNS_DIR", help="A folder of runs.")] = "runs",
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "localhost",
    port: Annotated[
        int, typer.Option(help="Port to serve on; 0 takes a free one.", min=0, max=65535)
    ] = 6006,
) -> None:
    """Show TensorBoard on the runs until Ctrl-C."""
    require_runs(runs)
    count = len({path.parent for path in Path(runs).rglob("*tfevents*")})
    if count > SHOWN_AT_FIRST:
        say(f"{count} runs: Scalars and Custom Scalars stay empty until TOGGLE ALL RUNS is pressed")
    if not count:
        say(f"warning: no run in '{runs}' has curves yet: they appear when one writes them")
    with working():
        from threading import Event

        from tensorboard import program

        server = program.TensorBoard()
        server.configure(logdir=runs, host=host, port=port)
        try:
            url = server.launch()
        except program.TensorBoardServerException as error:
            raise RuntimeError(f"{error.msg} (choose another --port)") from None
        except SystemExit:  # werkzeug's word, after a line of its own
            raise ValueError(f"expected --host, an address of this machine, got '{host}'") from None
    try:  # whoever reads the line may press Ctrl-C at once
        print(f"TensorBoard on {runs}: {url} (Ctrl-C ends it)", flush=True)
        Event().wait()
    except KeyboardInterrupt:
        say("ended")


@guarded
def blocks(
    channels: Annotated[int, typer.Option(help="Width of the stack.", min=1, max=2048)] = 128,
    depth: Annotated[int, typer.Option(help="Units in the stack.", min=1, max=1000)] = 4,
    json: Json = False,
) -> None:
    """List the families of skip connections: formula, source, parameters, what a frame costs."""
    with working():
        from tacoskip.blocks import BLOCKS, build_block, cost

        families: dict[str, dict[str, Any]] = {}
        for name, family in BLOCKS.items():
            stack = build_block(name, channels, depth)
            families[name] = {
                "formula": family.formula,
                "source": family.source,
                "transform": family.transform,
                "skip": family.skip,
                "topology": family.topology,
                "parameters": cost.parameters(stack),
                "macs_per_frame": round(cost.macs_per_frame(stack, channels)),
                "receptive_field": cost.receptive_field(stack, channels),
                "latency_ms": round(cost.latency_ms(stack, channels), 2),
            }
    if json:
        emit_json({"channels": channels, "depth": depth, "blocks": families})
        return
    columns = ["block", "formula", "parameters", "MACs/frame", "frames seen", "ms", "source"]
    rows = [
        [
            *(name, f["formula"], f"{f['parameters']:,}", f"{f['macs_per_frame']:,}"),
            *(str(f["receptive_field"] or "all"), f"{f['latency_ms']:.1f}", f["source"]),
        ]
        for name, f in families.items()
    ]
    emit_table(columns, rows, title=f"{depth} units, {channels} channels")


@guarded
def doctor(json: Json = False) -> None:
    """Say what is installed, and what will and will not work here."""
    from tacoskip.cli.doctor import examine

    with working():
        findings = examine()
    if json:
        checks = [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in findings]
        healthy = all(f.ok is not False for f in findings)
        emit_json({"healthy": healthy, "checks": checks})
        return
    words = {True: "ok", None: "note", False: "BROKEN"}
    emit_table(["", "", ""], [[words[f.ok], f.name, f.detail] for f in findings])
