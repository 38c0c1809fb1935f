"""The console command `cloud-service`, which says what to install where a library is missing."""

import sys

EXTRAS = "pip install 'device-cloud-recommendation[serve]' serves, [cloud] trains and evaluates too"


def main() -> None:
    """Runs the command; a library that is not installed is one line on stderr and exit code 2."""
    try:
        from cloud_service.cli import main as command

        command()
    except ModuleNotFoundError as error:
        name = (error.name or "a library").partition(".")[0]
        if name in ("cloud_service", "shared"):
            raise
        print(f"cloud-service: {name} is not installed here: {EXTRAS}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
