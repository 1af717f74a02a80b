"""The one exception that means "the input is wrong, not the program"."""


class InputError(ValueError):
    """A file, option or size that the user gave cannot be used.

    The message names the value received, the rule it breaks and the fix. Entry points print
    it without a traceback and exit with status 1.
    """
