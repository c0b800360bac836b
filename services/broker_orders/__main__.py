"""`python -m services.broker_orders`"""

from mybroker.runtime.lifecycle import run_service
from services.broker_orders.app import SERVICE, start

run_service(SERVICE, start)
