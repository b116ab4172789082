"""The one way in which a command fails."""


class ToolError(Exception):
    """One sentence with names and numbers. The program prints it and exits with code 1."""
