"""Every shipped recipe loads, says what it is for, and builds a network."""

from pathlib import Path

import pytest

from tacoskip.config import ConfigError, load_config
from tacoskip.recipe_files import find_recipe, known_recipes

ROOT = Path(__file__).resolve().parents[1]
VOICES = [
    "arctic",
    "arctic_gpu",
    "demo",
    "fsdd",
    "ljspeech",
    "ljspeech_gpu",
    "ljspeech_small",
    "mine",
    "smoke",
    "vctk",
]
RECOGNIZERS = [
    *(
        "arctic_asr",
        "demo_asr",
        "fsdd_asr",
        "librispeech_asr",
        "ljspeech_asr",
        "ljspeech_asr_small",
    ),
    "smoke_asr",
]
PROMISED = [*VOICES, *RECOGNIZERS]


def test_promised_recipes_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # independent of the working folder
    assert set(PROMISED) <= set(known_recipes())


@pytest.mark.parametrize("name", PROMISED)
def test_recipe_loads_and_builds_a_network(name: str) -> None:
    from tacoskip.models.initial import outline
    from tacoskip.run_folder import build_network

    first = find_recipe(name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 40, "expected a summary"
    config = load_config(name)
    assert config.run == f"runs/{name}"
    assert config.task == ("tts" if name in VOICES else "asr")
    assert config.train.sentences or name in RECOGNIZERS, "no sentence for TensorBoard"
    with outline():  # shapes alone
        model = build_network(config, n_symbols=40, n_speakers=2)
    assert sum(weight.numel() for weight in model.parameters()) > 1000
    assert load_config(name, ["block=residual"]).block == "residual"


def test_base_is_not_listed_as_a_recipe() -> None:
    assert "tts" not in known_recipes()
    with pytest.raises(ConfigError, match="unknown recipe 'tts'"):
        load_config("tts")


def test_wheel_contains_every_package_and_data_file() -> None:
    import tomllib

    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "tacoskip").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert packages | set(setup["package-dir"]) == set(setup["packages"])
    for package, folder in setup["package-dir"].items():
        found = {path for path in (ROOT / folder).rglob("*") if path.is_file()}
        patterns = setup["package-data"][package]
        assert found == {path for pattern in patterns for path in (ROOT / folder).glob(pattern)}
    assert setup["package-data"]["tacoskip.kernels.cpu"] == ["*.c", "*.h"]
