"""Board files: every one loads, and every mistake in one is named."""

import shlex
from pathlib import Path

import pytest
from mcucompile.errors import BoardError
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import list_boards, load_board
from mcucompile.targets.firmware import firmware_files, linker_script


def test_all_boards_load():
    names = {board.name for board in list_boards()}
    assert names >= {"host", "hifive1", "hifive1-revb", "microbit", "nucleo-f401re", "ch32v003"}
    assert names == {path.stem for path in resource_dir("boards").glob("*.toml")}


@pytest.mark.parametrize("board", [board for board in list_boards() if not board.is_host], ids=lambda b: b.name)
def test_board_is_complete(board):
    assert board.memory.flash_bytes > 0 < board.memory.ram_bytes
    assert board.clock_hz > 0
    assert board.qemu is not None or board.unicorn is not None
    assert board.has_multiplier == (board.cycles.multiply > 0)
    for name, words in board.runners.items():
        filled = [word.format(elf="E", bin="B", directory="D", port="P") for word in words]
        assert shlex.join(filled) != shlex.join(words), f"runner {name} names no file"
    files = firmware_files(board, stack_bytes=400)
    assert {"include/mcu_link.h", "src/mcu_link.c", "src/mcu_main.c", "src/mcu_memory.c", "link.ld"} <= files.keys()
    assert files["link.ld"] == linker_script(board, 400)


def test_every_number_has_a_source():
    for path in resource_dir("boards").glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        for section in ("[memory]", "[cycles]"):
            assert "#" in text.split(section)[1].split("\n[")[0], f"{path.name} {section}"


HIFIVE1 = (resource_dir("boards") / "hifive1.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("clock_hz = 16_000_000", "clock_khz = 16_000", "key 'clock_khz'", "not a key"),
        ("ram_bytes = 16_384", "", "key 'memory.ram_bytes'", "missing"),
        ("ram_bytes = 16_384", "ram_bytes = '16K'", "key 'memory.ram_bytes'", "'16K'"),
        ("ram_bytes = 16_384", "ram_bytes = true", "key 'memory.ram_bytes'", "True"),
        ('core = "rv32imac"', 'core = "z80"', "key 'core'", "z80"),
        ("mcu_port_fe310.c", "mcu_port_fe311.c", "key 'build.sources'", "mcu_port_fe311.c"),
        ("link_chunk_bytes = 64", "link_chunk_bytes = 16", "key 'build.link_chunk_bytes'", "16"),
        ('"0x10008004"', '"prci"', "key 'unicorn.constants'", "prci"),
        ("arguments = []", "arguments = [1]", "key 'qemu.arguments[0]'", "1"),
        ("[memory]", "[memory", "hifive.toml", "not TOML"),
        ("[cycles]", "[cycle]", "key 'cycle'", "not a key"),
    ],
)
def test_mistake_in_a_board_file_is_named(tmp_path, old, new, where, problem):
    assert old in HIFIVE1
    path = tmp_path / "hifive.toml"
    path.write_text(HIFIVE1.replace(old, new), encoding="utf-8")
    with pytest.raises(BoardError) as caught:
        load_board(path)
    assert where in caught.value.where
    assert problem in caught.value.problem


def test_board_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(HIFIVE1.replace('name = "hifive1"', 'name = "mine"'), encoding="utf-8")
    assert load_board(path).name == "mine"


@pytest.mark.parametrize("name", ["hifive2", "", "boards/none.toml", Path("none.toml"), "../boards/hifive1"])
def test_unknown_board(name):
    with pytest.raises(BoardError):
        load_board(name)


def test_unknown_board_lists_the_known_ones():
    with pytest.raises(BoardError, match=r"hifive1.*microbit"):
        load_board("hifive2")
