"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Something that was given is at fault; the message names it and says what would be right."""
