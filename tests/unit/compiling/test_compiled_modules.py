import os
from pathlib import Path

import pytest
from compiling.modules import GROUP, built, extension_of, problems, sources

ROOT = Path(__file__).parents[3]


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A checkout where everything is compiled."""
    suffix = extension_of(Path("x.py")).name.removeprefix("x")
    for source in sources(tmp_path):
        source.parent.mkdir(parents=True, exist_ok=True)
        source.touch()
        extension_of(source).touch()
    (tmp_path / f"{GROUP}__mypyc{suffix}").touch()
    return tmp_path


def test_every_module_to_compile_is_there() -> None:
    assert [source for source in sources(ROOT) if not source.is_file()] == []


def test_a_checkout_without_extensions_is_fine(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


def test_a_checkout_that_is_compiled_is_fine(compiled: Path) -> None:
    assert problems(compiled) == []
    assert len(list(built(compiled))) == len(sources(compiled)) + 1


def test_an_extension_older_than_its_source_is_told(compiled: Path) -> None:
    source = sources(compiled)[3]
    os.utime(extension_of(source), (1.0, 1.0))
    assert problems(compiled) == [f"{extension_of(source)} is older than its source"]


def test_a_missing_extension_is_told(compiled: Path) -> None:
    extension = extension_of(sources(compiled)[3])
    extension.unlink()
    assert problems(compiled) == [f"{extension} is missing"]


def test_an_extension_of_nothing_is_told(compiled: Path) -> None:
    stray = compiled / "hfx_sgl" / "policy" / "stray.so"
    stray.touch()
    assert problems(compiled) == [f"{stray} belongs to no source"]
