"""What messages show of names that strangers chose."""

import pytest

from verydeep.errors import UsageError, UserError, printable


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain, caf\u00e9, \u4eba \u200b", "plain, caf\u00e9, \u4eba \ufffd"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("photo\u202egpj.exe", "photo\ufffdgpj.exe"),
        ("a\0b\x9b\udce9", "a\ufffdb\ufffd\ufffd"),
        ("two\nlines", "two\nlines"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("Screenshot at 1.00\u202fPM, \u5168\u89d2\u3000", "Screenshot at 1.00\u202fPM, \u5168\u89d2\u3000"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
    ],
    ids=["no control", "colours", "turned about", "null", "lines", "Persian", "spaces", "a family"],
)
def test_what_would_steer_a_terminal_is_replaced(given, shown):
    assert printable(given) == shown
    for kind in (UserError, UsageError):
        assert str(kind(given)) == shown
