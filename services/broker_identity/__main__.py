"""Start identity, or with the role `rotate` add a signing key and end."""

import sys
from pathlib import Path

from mybroker.runtime.lifecycle import run_service
from mybroker.runtime.settings import load
from services.broker_identity.app import SERVICE, start
from services.broker_identity.tokens import SigningKeys

if __name__ == "__main__":
    if sys.argv[1:] == ["rotate"]:
        folder: Path = load().path("MYBROKER_SECRETS_DIR")
        sys.stdout.write(f"new signing key {SigningKeys(folder).rotate()}\n")
    else:
        run_service(SERVICE, start)
