"""The one error that users can correct themselves."""


class InputError(ValueError):
    """An input is at fault; the message names it, its value, and what would be right."""
