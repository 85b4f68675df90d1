"""The exception for errors that users can fix."""


class UserError(Exception):
    """Bad input: the message is one line that names the thing and the fix.

    The command line prints it without a traceback and exits with code 2. Any other exception that
    reaches the command line is a bug in cp2fast and keeps its traceback.
    """
