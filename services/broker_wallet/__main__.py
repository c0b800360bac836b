"""`python -m services.broker_wallet`"""

from mybroker.runtime.lifecycle import run_service
from services.broker_wallet.app import SERVICE, start

run_service(SERVICE, start)
