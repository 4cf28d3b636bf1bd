"""Recipes and overrides that are generated: loaded, or refused in one line."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tacoskip.config import Config, ConfigError, load_config

from .conftest import KEYS, VALUES, Fuzz, damaged, one_line


def write_yaml(value: Any) -> str:
    """JSON is yaml; what JSON has no word for is written as yaml does."""
    return json.dumps(value, default=lambda each: each.hex(), ensure_ascii=False)


NESTED = st.lists(st.tuples(KEYS, VALUES), max_size=3).map(
    lambda pairs: "\n".join(f"{write_yaml(key)}: {write_yaml(value)}" for key, value in pairs)
)
SYNTAX = st.lists(
    st.sampled_from(
        [
            *(
                "\n",
                " ",
                "\n  ",
                "\t",
                "\\",
                "a",
                "b",
                "&a",
                "*a",
                "[",
                "]",
                "{",
                "}",
                ":",
                ",",
                "- ",
            ),
            *("?", "!", "!!python/object:os.system", "<<", "|", ">", "#", "%", "'", '"', "${a}"),
            *("train: ", "seed: ", "1", "1e9", ".nan", "~", "=", "---", "..."),
        ]
    ),
    max_size=20,
).map("".join)


def test_recipes(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            config = load_config(str(path))
        except ConfigError as error:
            one_line(error)
            return
        assert isinstance(config, Config)

    shipped = [p.read_bytes() for p in sorted(Path("recipes").glob("*.yaml"))]
    texts = st.one_of(NESTED, SYNTAX, st.text(max_size=30)).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
    fuzz("recipes", check, texts | damaged(shipped or [b"base: smoke\n"]), share=0.2)


def test_overrides(fuzz: Fuzz) -> None:
    def check(pair: str) -> None:
        try:
            config = load_config("smoke", [pair])
        except ConfigError as error:
            one_line(error)
            return
        assert isinstance(config, Config)

    values = st.one_of(VALUES.map(write_yaml), st.text(max_size=10), SYNTAX)
    known = st.builds(lambda key, value: f"{key}={value}", KEYS, values)
    fuzz("overrides", check, known | st.text(max_size=20), share=0.2)
