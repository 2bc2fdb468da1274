"""What a user can mend: one exception, which every command prints as one line and answers with exit code 2."""


class InputError(ValueError):
    """A flag, file or folder is not what it should be.

    The message is a single line that names what is wrong, the value, and what to do about it. Anything else that is
    raised is a bug of ours and keeps its traceback.
    """


class Diverged(InputError):
    """A network's outputs are NaN: its training has failed, and goes on failing."""


def one_line(error: BaseException) -> str:
    """The message of another library's error as a single line; its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
