"""The one error that a user is meant to see."""


class UserError(Exception):
    """Bad input: the message is one line that names the thing and the fix.

    The command line prints it without a traceback and exits with code 2. Anything else that
    reaches the command line is a defect of cp2fast and keeps its traceback.
    """
