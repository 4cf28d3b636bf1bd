"""What a recipe or a command line may not say, and the one line that tells its author.

Used by `config.py` alone; it works on dotted keys (`train.max_steps`) and plain values.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from tacoskip.models.settings import CBHGSettings

if TYPE_CHECKING:
    from tacoskip.config import Config


class ConfigError(ValueError):
    """A request that cannot be met: one line naming the key, what was expected, the nearest."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # also where a key or value holds lines


CHOICES = {
    "task": ("tts", "asr"),
    "match": ("none", "params", "macs"),
    "asr.decoder": ("ctc", "attention"),
    "asr.tokens": ("characters", "bpe"),
    "text.symbols": ("characters", "phonemes"),
    "data.corpus": ("demo", "ljspeech", "vctk", "fsdd", "librispeech", "folder"),
    "train.precision": ("auto", "fp32", "bf16", "fp16"),
    "train.device": ("auto", "cpu", "cuda"),
}

SELECT = {"tts": ("mcd_db", "alignment", "loss", "cer_by_asr"), "asr": ("cer", "wer", "loss")}

# Sections that only one task reads: what is said there to the other is refused.
SECTIONS = {"tts": ("tts", "postnet", "griffin_lim"), "asr": ("asr", "augment")}

MAY_BE_NEGATIVE = ("audio.floor_db", "data.level_db")

ABOVE_ZERO = (
    *("data.max_seconds", "data.batch_seconds", "data.max_batch"),
    *("cbhg.bank_size", "cbhg.bank_channels", "cbhg.projection_channels"),
    *("cbhg.channels", "cbhg.gru_channels"),
    *("postnet.bank_size", "postnet.bank_channels", "postnet.projection_channels"),
    *("postnet.channels", "postnet.gru_channels"),
    *("tts.embedding_channels", "tts.attention_channels", "tts.attention_rnn_channels"),
    *("tts.decoder_channels", "tts.frames_per_step"),
    *("asr.channels", "asr.layers", "asr.subsampling"),
    *("asr.attention_channels", "asr.decoder_channels"),
    *("train.max_steps", "train.learning_rate", "train.clip_norm", "train.keep"),
    *("train.log_every", "train.evaluate_every"),
)

# The largest width, depth or count of a network's section, and any other number: what asks for
# more is a slip, or would take a machine's memory.
LARGEST_SIZE, LARGEST = 65_536, 1e12
LARGEST_SEED = 2**32 - 1  # numpy's generators take no more


def field_kinds(cls: type, prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> type of every field; a section's type is its dataclass."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(cls).items():
        kinds[prefix + name] = kind
        if isinstance(kind, type) and is_dataclass(kind):
            kinds |= field_kinds(kind, f"{prefix}{name}.")
    return kinds


def kind_name(kind: Any) -> str:
    """Say a field's type in words."""
    if get_origin(kind) is list:
        many = {int: "whole numbers", float: "numbers", str: "texts"}
        return f"a list [...] of {many.get(get_args(kind)[0], 'lists')}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "options as {name: value}")


def flatten(
    layer: dict[str, Any], kinds: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) down to the fields; a field that is a dict stays whole."""
    for name, value in layer.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and get_origin(kinds.get(key)) is not dict:
            yield from flatten(value, kinds, f"{key}.")
        elif value is not None or not is_dataclass(kinds.get(key)):  # `train:` and no line below
            yield key, value


def check_key(key: str, kinds: dict[str, Any]) -> None:
    """Raise ConfigError unless `key` is a field that takes a value, or an option in one."""
    if key not in kinds:
        parent = key.rpartition(".")[0]
        if get_origin(kinds.get(parent)) is dict:
            return
        if parent in kinds and not is_dataclass(kinds[parent]):
            raise ConfigError(f"expected {kind_name(kinds[parent])} for '{parent}', got '{key}'")
        raise ConfigError(f"unknown key '{key}'{_nearest_key(key, kinds)}")
    if is_dataclass(kinds[key]):
        raise ConfigError(f"'{key}' is a section of keys: {', '.join(get_type_hints(kinds[key]))}")


def check_items(value: Any, kind: Any) -> None:
    """Raise TypeError where a list holds a list and should not, or the reverse."""
    if get_origin(kind) is list and isinstance(value, list):
        inner = get_args(kind)[0]
        if any(isinstance(item, list) != (get_origin(inner) is list) for item in value):
            raise TypeError
        for item in value:
            check_items(item, inner)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?", or nothing when no known name is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def with_block(place: CBHGSettings, config: "Config") -> CBHGSettings:
    """Return a CBHG's settings with the recipe's block where it names none of its own."""
    return replace(
        place,
        block=place.block or config.block,
        # The recipe's skip and topology were said of the recipe's block.
        skip=place.skip or ("" if place.block else config.skip),
        topology=place.topology or ("" if place.block else config.topology),
    )


def check_values(config: "Config") -> None:
    """Raise ConfigError for a value of the right type that means nothing."""
    import torch

    from tacoskip.blocks import BLOCKS, SKIPS, TOPOLOGIES, build_block  # these import torch
    from tacoskip.models.attention import ATTENTIONS, ONE_SYMBOL_A_STEP

    values = dict(flatten(asdict(config), field_kinds(type(config))))
    choices = {**CHOICES, "block": tuple(BLOCKS), "tts.attention": tuple(ATTENTIONS)}
    choices |= dict.fromkeys(("cbhg.block", "postnet.block"), ("", *BLOCKS))
    # A unit lasts several encoder frames, which these would have to pass one by one.
    choices["asr.attention"] = tuple(a for a in ATTENTIONS if a not in ONE_SYMBOL_A_STEP)
    choices["train.select"] = SELECT.get(config.task, ())
    for place in ("", "cbhg.", "postnet."):
        choices |= {f"{place}skip": ("", *SKIPS), f"{place}topology": ("", *TOPOLOGIES)}
    for key, known in choices.items():
        if values[key] not in known:
            names = [name for name in known if name]
            hint = f"{nearest(values[key], names)} (known: {', '.join(names)})"
            raise ConfigError(f"unknown {key} '{values[key]}'{hint}")
    for key, value in values.items():
        if not isinstance(value, int | float) or key in MAY_BE_NEGATIVE:
            continue
        if not 0 <= value < math.inf:  # false for NaN too
            raise ConfigError(f"expected {key} of at least 0, got {value}")
        size = key.startswith(("cbhg.", "postnet.", "tts.", "asr.")) and isinstance(value, int)
        most = LARGEST_SIZE if size else LARGEST_SEED if key == "seed" else LARGEST
        if value > most:
            said = f"{most:g}, got {value:g}" if most == LARGEST else f"{most}, got {value}"
            raise ConfigError(f"expected {key} of at most {said}")
        if value == 0 and key in ABOVE_ZERO:
            raise ConfigError(f"expected {key} above 0, got 0")
    _check_task(config)
    for key in config.ablation:
        try:
            check_key(key, field_kinds(type(config)))
        except ConfigError as error:
            raise ConfigError(f"ablation: {error}") from None
    _check_relations(config)
    for settings in (config.cbhg, config.postnet):
        stack = with_block(settings, config)
        depth = min(stack.depth, 2)
        with torch.device("meta"):  # refused here, before a corpus is prepared for it
            try:
                build_block(
                    stack.block,
                    stack.channels,
                    depth,
                    stack.skip,
                    stack.topology,
                    **stack.block_options,
                )
            except ValueError as error:
                raise ConfigError(str(error)) from None
            except (RuntimeError, TypeError, ArithmeticError) as error:
                reason = str(error).partition("\n")[0]
                raise ConfigError(f"block '{stack.block}' cannot be built: {reason}") from None


def _nearest_key(key: str, kinds: dict[str, Any]) -> str:
    """Name the field meant: the section forgotten, a slip anywhere, a slip and a wrong section."""
    leaf = key.rpartition(".")[2]
    near = [known for known in kinds if known.endswith(f".{leaf}")]
    near = near or get_close_matches(key, kinds, n=1, cutoff=0.7)
    if not near:
        leaves = {known.rpartition(".")[2]: known for known in kinds}
        near = [leaves[name] for name in get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    if near:
        return f"; did you mean '{near[0]}'?"
    return f" (sections: {', '.join(name for name, kind in kinds.items() if is_dataclass(kind))})"


def _check_task(config: "Config") -> None:
    values, plain = asdict(config), asdict(type(config)())
    for task, sections in SECTIONS.items():
        for section in sections if task != config.task else ():
            for key, value in flatten(values[section], {}, f"{section}."):
                if value != dict(flatten(plain[section], {}, f"{section}."))[key]:
                    raise ConfigError(f"'{key}' is of task={task}, and this is task={config.task}")
    if config.train.select == "cer_by_asr" and not config.train.judge:
        raise ConfigError("expected train.judge=ASR_RUN with train.select=cer_by_asr, got none")
    if config.task == "asr" and config.train.judge:
        raise ConfigError("'train.judge' is of task=tts, and this is task=asr")
    if config.task == "tts" and config.data.extra:
        raise ConfigError("'data.extra' is of task=asr, and this is task=tts")
    if config.task == "asr" and config.text.symbols != "characters":
        raise ConfigError(f"expected text.symbols=characters, got {config.text.symbols}")


def _check_relations(config: "Config") -> None:
    join, schedule = config.data.join, config.tts.reduction_schedule
    if len(join) != 2 or not 1 <= join[0] <= join[1]:
        raise ConfigError(f"expected data.join = [least, most] clips, got {join}")
    if config.data.min_seconds >= config.data.max_seconds:
        got = f"{config.data.min_seconds:g} and {config.data.max_seconds:g}"
        raise ConfigError(f"expected data.min_seconds < data.max_seconds, got {got}")
    if config.tts.prenet_dropout >= 1:
        raise ConfigError(f"expected tts.prenet_dropout below 1, got {config.tts.prenet_dropout:g}")
    if not 0 < config.data.train_share <= 1:
        share = config.data.train_share
        raise ConfigError(f"expected data.train_share above 0 and up to 1, got {share:g}")
    if config.train.deterministic and config.train.max_minutes:
        minutes = config.train.max_minutes
        raise ConfigError(
            "expected train.max_minutes=0 with train.deterministic=true (by the clock no two runs "
            f"are the same), got {minutes:g}; use train.max_steps"
        )
    if config.train.ema_decay >= 1:
        raise ConfigError(f"expected train.ema_decay below 1, got {config.train.ema_decay:g}")
    if config.asr.ctc_weight > 1 or config.asr.ctc_weight == 0:
        weight = config.asr.ctc_weight
        raise ConfigError(f"expected asr.ctc_weight above 0 and up to 1, got {weight:g}")
    if config.asr.subsampling & (config.asr.subsampling - 1):
        raise ConfigError(f"expected asr.subsampling 1, 2, 4, 8, ..., got {config.asr.subsampling}")
    for key in ("dropout", "time_mask_share"):
        if getattr(config.asr, key) >= 1:
            raise ConfigError(f"expected asr.{key} below 1, got {getattr(config.asr, key):g}")
    if not all(0.5 <= factor <= 2 for factor in config.augment.speed):
        raise ConfigError(f"expected augment.speed from 0.5 to 2, got {config.augment.speed}")
    noise = config.augment.noise_db
    if noise and not (len(noise) == 2 and noise[0] <= noise[1]):
        raise ConfigError(f"expected augment.noise_db = [least, most], got {noise}")
    if not all(1 <= channels <= LARGEST_SIZE for channels in config.tts.prenet_channels):
        widths = config.tts.prenet_channels
        expected = f"expected tts.prenet_channels of at least 1, at most {LARGEST_SIZE}"
        raise ConfigError(f"{expected}, got {widths}")
    steps = [pair[0] for pair in schedule if len(pair) == 2 and pair[1] >= 1]
    if len(steps) != len(schedule) or steps != sorted(set(steps)) or steps[:1] not in ([], [0]):
        expected = "tts.reduction_schedule = [[0, r], [step, r], ...]"
        raise ConfigError(f"expected {expected} with rising steps, got {schedule}")
