"""The exception for errors that users can fix."""


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong and how to fix it.

    The command line prints it without a traceback and exits with code 2. Any other exception that
    reaches the command line is a bug in cp2fast and keeps its traceback.
    """
