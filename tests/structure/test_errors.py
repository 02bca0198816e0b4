"""Messages quote untrusted files."""

from keraslm.errors import LONGEST, KeraslmError, TextError, shown


def test_a_message_is_one_line_of_printable_characters():
    assert str(TextError("a\nb\x1b[31m \ud800 é")) == r"a\nb\x1b[31m \ud800 é"


def test_a_message_may_end_with_a_list():
    assert str(KeraslmError("2 failed:", "  a\nb", "  c")) == "2 failed:\n  a\\nb\n  c"


def test_a_long_message_keeps_its_beginning_and_its_advice():
    message = str(KeraslmError("file: " + "x" * 10**6 + " Do this."))
    assert len(message) == LONGEST and message.startswith("file: x") and message.endswith("x Do this.")


def test_long_values_are_shortened():
    assert shown([1, "a"]) == "[1, 'a']"
    assert len(shown("x" * 1000)) == 80 and len(shown([["x" * 100] * 100] * 100)) == 200
