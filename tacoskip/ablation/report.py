"""The comparison as one HTML file: no address outside, nothing to install, readable on a phone.

Every text that comes from a file goes through `escape`; pictures are embedded as images, where
nothing in them can run.
"""

from base64 import b64encode
from html import escape
from pathlib import Path

from tacoskip.ablation import depth, plots
from tacoskip.ablation.collect import DONE
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.html_tables import costs, unfinished, verdicts
from tacoskip.ablation.statistics import LEVEL, standard_errors_needed

CSS = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fdfdfb; margin: 0 auto;
  max-width: 1120px; padding: 1rem clamp(.8rem, 3vw, 2rem) 4rem }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .8rem 0 .3rem }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; border-top: 1px solid #ddd; padding-top: 1.2rem }
p, li { max-width: 46rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .92rem }
dt { color: #666 } dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto } .scroll img { max-width: none }
table { border-collapse: collapse; font-size: .83rem; font-variant-numeric: tabular-nums }
th, td { padding: .26rem .45rem; text-align: right; white-space: nowrap }
th { font-weight: 600; border-bottom: 2px solid #bbb; vertical-align: bottom }
td { border-bottom: 1px solid #eee }
th:first-child, td.text, th.text { text-align: left }
td:first-child, th:first-child { position: sticky; left: 0; background: #fdfdfb; text-align: left }
tr.baseline td { background: #f1f1ec } td.wrap { white-space: normal; min-width: 16rem }
.unsure { color: #777 }
.better { color: #0072B2; font-weight: 600 } .worse { color: #B84A00; font-weight: 600 }
.warning { background: #fff4de; border-left: 4px solid #e0a020; padding: .5rem .9rem }
.warning ul { margin: 0; padding-left: 1.1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: .8rem; align-items: start }
.scroll + .grid { margin-top: 1.2rem }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)) }
.grid img { width: 100% } figure { margin: 0 } figcaption { font-size: .88rem; font-weight: 600 }
summary { cursor: pointer; font-weight: 600; margin: .7rem 0 }
"""


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the comparison as one self-contained HTML file and return its path.

    Raises OSError when the file cannot be written.
    """
    title = f"{comparison.recipe or comparison.folder.name}: skip connections compared"
    sections = [_head(comparison, title), _warnings(comparison)]
    if comparison.main:
        sections += [
            *(verdicts(comparison), _forests(comparison), _scatters(comparison)),
            *(_curves(comparison), _gradients(comparison), _lesions(comparison)),
            _alignments(comparison),
        ]
    sections += [unfinished(comparison), _how_to_read(comparison)]
    path = Path(path)
    path.write_text(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return path


def _head(comparison: Comparison, title: str) -> str:
    done = [run for run in comparison.runs if run.state == DONE]
    steps = sorted({run.steps for run in done if run.steps is not None})
    minutes = [run.minutes for run in done if run.minutes is not None]
    facts = {
        "folder": str(comparison.folder),
        "recipe": comparison.recipe or "-",
        "overrides": " ".join(comparison.overrides) or "none",
        "baseline": comparison.baseline,
        "runs": f"{len(done)} finished of {len(comparison.runs)}; "
        f"{len(comparison.variants)} variants, up to {comparison.most_seeds} "
        f"seed{'s' * (comparison.most_seeds != 1)}",
        "steps": " to ".join(str(step) for step in dict.fromkeys(steps[:1] + steps[-1:])) or "-",
        "minutes a run": f"{sum(minutes) / len(minutes):.1f} (mean)" if minutes else "-",
        "also differing": ", ".join(comparison.differing) or "nothing but block and seed",
        "compared on": comparison.date,
    }
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<h1>{escape(title)}</h1>\n<dl>{rows}</dl>"


def _warnings(comparison: Comparison) -> str:
    if not comparison.warnings:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in comparison.warnings)
    return f'<div class="warning"><ul>{items}</ul></div>'


def _forests(comparison: Comparison) -> str:
    drawn = [
        _image(plots.forest(comparison, figure), f"differences in {figure}")
        for figure in comparison.figures
        if comparison.analyses[figure].differences
    ]
    if not drawn:
        return ""
    more = "".join(f'<div class="scroll">{one}</div>' for one in drawn[1:])
    others = f"<details><summary>the other figures</summary>{more}</details>" if more else ""
    return (
        "<h2>Differences to the baseline</h2>\n<p>Dots: mean of the differences seed by seed; "
        "lines: their 95 % intervals; filled dots: better or worse. The band is the noise floor: "
        "two means of one block fall within it 95 % of the time.</p>"
        f'<div class="scroll">{drawn[0]}</div>{others}'
    )


def _scatters(comparison: Comparison) -> str:
    drawn = [
        _image(
            plots.scatter(comparison, comparison.main, cost, label), f"{comparison.main}, {cost}"
        )
        for cost, label in (
            ("parameters", "parameters"),
            ("latency_ms", "latency in ms"),
            ("peak_memory_mb", "peak memory in MB"),
        )
        if any(cost in variant.cost for variant in comparison.variants)
    ]
    if not drawn:
        return ""
    pictures = f'<div class="grid wide">{"".join(drawn)}</div>'
    return f"<h2>Quality against cost</h2>\n{costs(comparison)}{pictures}"


def _curves(comparison: Comparison) -> str:
    tags = ["train/loss", f"validation/{comparison.main}"]
    found = {tag: plots.variant_curves(comparison, tag) for tag in tags}
    found = {tag: curves for tag, curves in found.items() if curves}
    if not found:
        return ""
    limits = {tag: plots.shared_limits(list(curves.values())) for tag, curves in found.items()}
    drawn = []
    for variant in comparison.variants:
        panels = [
            (tag, curves.get(variant.name), curves.get(comparison.baseline), limits[tag])
            for tag, curves in found.items()
        ]
        if any(own is not None for _, own, _, _ in panels):
            name = variant.name
            drawn.append(_image(plots.curves(name, panels), f"curves of {name}"))
    return (
        "<h2>Curves</h2>\n<p>Over training steps. Blue: the variant, grey: the baseline; line: "
        "mean, band: least to greatest over seeds. All panels share their scale of values; "
        "what lies far above is cut off.</p>"
        f'<div class="grid">{"".join(drawn)}</div>'
    )


def _gradients(comparison: Comparison) -> str:
    parts, flow = plots.gradient_norms(comparison), depth.by_depth(comparison, list(depth.FLOW))
    if not parts and not flow:
        return ""
    text = "<h2>Gradient flow</h2>\n"
    if parts:
        text += (
            "<p>Norm of the last gradient in each part of the network, the geometric mean over "
            "seeds. A white field: the variant has no such part, or no gradient reached it.</p>"
            f'<div class="scroll">{_image(plots.gradient_flow(comparison), "gradient norms")}</div>'
        )
    if flow:
        limits = depth.limits(flow, "gradient")
        drawn = [
            _image(depth.flow(name, places, limits), f"gradient by depth of {name}")
            for name, places in flow.items()
        ]
        text += (
            "<p>By depth, each stack from its input to its output. Black: the gradient at a unit's "
            "input; blue: the part of it that came through the unit's transform; orange, dashed: "
            "the rest, which came along the skip. All panels share their scale; parts that are far "
            "smaller are cut off.</p>"
            f'<div class="grid">{"".join(drawn)}</div>'
        )
    return text


def _lesions(comparison: Comparison) -> str:
    found = depth.by_depth(comparison, ["lesion"])
    if not found:
        return ""
    limits = depth.limits(found, "lesion")
    drawn = [
        _image(depth.lesions(name, places, limits), f"lesions of {name}")
        for name, places in found.items()
    ]
    rows = [
        f"<tr><td>{escape(name)}</td><td class='text'>{escape(place)}</td><td>{mean:.2f}</td></tr>"
        for name, places in depth.paths_of(comparison).items()
        for place, mean in places.items()
    ]
    table = (
        "<details><summary>mean length of the paths that the gradient takes</summary>"
        "<p>In transforms, of the units there are; for chains with skips.</p><div class='scroll'>"
        "<table><tr><th>variant</th><th class='text'>stack</th><th>transforms</th></tr>"
        f"{''.join(rows)}</table></div></details>"
    )
    return (
        "<h2>Without one unit</h2>\n<p>How much the validation loss rises when a trained network "
        "does without one of its units: the mean over seeds. No bar: that unit changes the width "
        "and cannot be passed by. All panels share their scale; what lies far above is cut "
        f'off.</p><div class="grid">{"".join(drawn)}</div>{table if rows else ""}'
    )


def _alignments(comparison: Comparison) -> str:
    drawn = []
    for variant in comparison.variants:
        first = next(iter(comparison.finished(variant.name)), None)
        if first is not None and first.events.alignment:
            picture = _image(first.events.alignment, f"alignment of {variant.name}", "png")
            caption = f"{escape(variant.name)}, seed {first.seed}"
            drawn.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    if not drawn:
        return ""
    return (
        "<h2>Alignments</h2>\n<p>The last teacher-forced one of each variant's first seed: decoder "
        f'steps to the right, symbols upwards.</p><div class="grid">{"".join(drawn)}</div>'
    )


def _how_to_read(comparison: Comparison) -> str:
    powers = []
    for figure, analysis in comparison.analyses.items():
        tested = sum(one.p is not None for one in analysis.differences.values())
        if tested and analysis.noise:
            needed = standard_errors_needed(analysis.noise.df, tested)
            powers.append(f"{escape(figure)} {needed:.1f} ({tested} variants)")
    power = ""
    if powers:
        power = (
            "<li>How many standard errors the clearest difference must reach here to survive the "
            f"correction: {', '.join(powers)}. More seeds make standard errors smaller; "
            "<i>cannot tell</i> is no proof that two blocks are equal.</li>"
        )
    return (
        "<h2>How to read this</h2>\n<ul>"
        "<li><b>Difference</b>: variant minus baseline with the same seed, so the same data in the "
        "same order and the same initial weights where both have them; averaged over seeds.</li>"
        "<li><b>Noise floor</b>: the spread between seeds of one and the same block, pooled over "
        "all variants. Two means that differ by less may as well be one block trained twice.</li>"
        "<li><b>better</b> or <b>worse</b>: p &lt; "
        f"{LEVEL:g}, corrected by Holm's method for all variants in that figure, <i>and</i> the "
        "difference is beyond the noise floor. Anything else is <b>cannot tell</b>. Figures are "
        "not corrected for one another.</li>"
        "<li><b>p</b>: a t test whose error is what is left of all runs once each variant and each "
        "seed has its own mean (randomised blocks). A variant that spreads far wider than the rest "
        "(Cochran's test, 1 %) stays out of that error and is tested with its own paired "
        "differences, as every variant is under <b>p (paired alone)</b>.</li>"
        f"{power}"
        "<li>An <b>A/A</b> variant is a block again with other seeds. Its verdict must be "
        "<i>cannot tell</i>.</li></ul>"
    )


def _image(data: bytes, alt: str, kind: str = "svg+xml") -> str:
    source = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return f'<img alt="{escape(alt)}" src="{source}">'
