"""What a model says cannot steer a terminal."""

from cleave.terminal import printable


def test_control_characters_are_replaced_and_lines_kept():
    assert printable("red\x1b[2J circle\nand\ta star\x07") == "red\ufffd[2J circle\nand\ta star\ufffd"


def test_letters_of_any_script_are_kept():
    assert printable("étoile 星 🙂") == "étoile 星 🙂"
