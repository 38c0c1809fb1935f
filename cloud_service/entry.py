"""Entry point of `cloud-service`; says what to install if a library is missing."""

import sys

EXTRAS = "pip install 'device-cloud-recommendation[serve]' serves, [cloud] trains and evaluates too"


def main() -> None:
    """Runs the command. Prints a missing library as one line on stderr and exits with code 2."""
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
