"""The one error that users can correct themselves."""


class InputError(ValueError):
    """An input is at fault; the message names it, its value, and what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text with escapes for what no UTF-8 can say, such as a byte of a foreign file name."""
    return text.encode(errors="backslashreplace").decode()
