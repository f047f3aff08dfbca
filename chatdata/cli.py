"""The command `chatdata`: a subcommand for each module that adds one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from chatdata import check, schema, seed_command
from chatdata.errors import ChatDataError

# Each takes argparse's subparsers and sets `run`, a function of the arguments that returns the exit status.
COMMANDS = (check.add_command, seed_command.add_command, schema.add_command)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 where all went well, 1 where something is wrong, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="chatdata", description="The chat data tier, from an application's host."
    )
    parser.add_argument("--contract", metavar="FOLDER", help="in place of /etc/chat-data-tier")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in COMMANDS:
        add_command(commands)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ChatDataError as error:
        print(f"chatdata: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
