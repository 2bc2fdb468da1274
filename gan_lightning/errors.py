"""The one exception for what a user can mend: every command prints it as one line and exits with code 2."""


class InputError(ValueError):
    """A flag, file or folder is not what it should be.

    The message is a single line that names what is wrong, the value, and what to do about it. Anything else that is
    raised is a bug of ours and keeps its traceback.
    """
