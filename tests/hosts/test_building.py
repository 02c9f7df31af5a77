"""Native builds: one at a time in a folder, and only when something has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from effine.runtime.engines.building import cmake_build, one_build
from effine.runtime.errors import EngineError

PROJECT = """
cmake_minimum_required(VERSION 3.28)
project(product NONE)
add_custom_target(product ALL COMMAND ${CMAKE_COMMAND} -E sleep 0.2
                  COMMAND ${CMAKE_COMMAND} -E touch product
                  COMMAND ${CMAKE_COMMAND} -E echo built >> builds)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "version.py").touch()
    return folder


def test_who_comes_second_waits_and_finds_it_made(source: Path, tmp_path: Path) -> None:
    def build(_: int) -> Path:
        return cmake_build("it", source, tmp_path / "build", "product", tmp_path)

    with ThreadPoolExecutor(3) as pool:
        made = set(pool.map(build, range(3)))
    assert made == {tmp_path / "build" / "product"}
    assert (tmp_path / "build" / "builds").read_text() == "built\n"


def test_a_failed_build_names_its_output_and_can_be_repeated(source: Path, tmp_path: Path) -> None:
    (source / "CMakeLists.txt").write_text("error")
    for _ in range(2):
        with pytest.raises(EngineError, match=r"it doesn't build; the output is in .*build\.log"):
            cmake_build("it", source, tmp_path / "build", "product", tmp_path)


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = r"file/build: it can't be built there: Not a directory"
    with pytest.raises(EngineError, match=problem), one_build("it", tmp_path / "file" / "build"):
        pass
