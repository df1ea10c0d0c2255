"""Check ``infrastructure/`` without a cloud: ``python -m infrastructure.checks [--tools FOLDER]``.

Syntax, arguments, names, rights and the policy of API Management always; with the folder of trivy and checkov, their
policies for both environments too. `make azure-check` gives it that folder.
"""

import argparse
import sys
from pathlib import Path

from infrastructure.checks import arguments, configuration, documented, gateway_policy, policies


def problems(folder: Path, page: Path, tools: Path | None) -> list[str]:
    """Everything that is wrong; policies are judged once the configuration holds together."""
    try:
        read = configuration.read(folder)
    except configuration.ConfigurationError as error:
        return [str(error)]
    found = [*arguments.problems(read), *documented.problems(read, page), *gateway_policy.problems(read)]
    return found if found or tools is None else policies.problems(tools, folder)


def main(given: list[str]) -> None:
    """Print what is wrong, and end with 1 if something is."""
    parser = argparse.ArgumentParser(prog="python -m infrastructure.checks", description="Check the infrastructure.")
    parser.add_argument("--tools", type=Path, help="folder of the programs trivy and checkov")
    parser.add_argument("--folder", type=Path, default=configuration.ROOT, help="the configuration")
    parser.add_argument("--page", type=Path, default=documented.PAGE, help="the page that lists names and rights")
    options = parser.parse_args(given)
    found = problems(options.folder.resolve(), options.page, options.tools and options.tools.resolve())
    if found:
        raise SystemExit("\n".join(found))
    about = "syntax, arguments, names, rights and the policy of API Management" + (
        ", and the policies of both environments" if options.tools else ""
    )
    sys.stdout.write(f"{options.folder}: {about} hold\n")


if __name__ == "__main__":
    main(sys.argv[1:])
