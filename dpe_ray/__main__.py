"""`python -m dpe_ray` is the `dpe-ray` command. Light to import: an early interrupt ends without a traceback."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """As `cli.main`; an interrupt while it is being imported is one line and exit status 130 too."""
    try:
        from dpe_ray.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything began\n")
        raise SystemExit(130) from None
    command_line(arguments)


if __name__ == "__main__":
    main()
