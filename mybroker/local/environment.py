"""What each process is told by its environment on this machine. Pure but for reading the given mapping.

A process gets the engines it needs and no more: one service's database address is never another's. What the
person who started us set (`MYBROKER_…` and the usual locale and path variables) passes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mybroker.plan.workloads import Workload

PASSED_THROUGH = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY")
URL_OF_SERVICES = {
    "broker_identity": "broker/identity",
    "broker_orders": "broker/orders",
    "broker_wallet": "broker/wallet",
    "broker_assets": "broker/assets",
    "b3_market_feed": "b3/market_feed",
    "b3_order_entry": "b3/order_entry",
    "b3_surveillance": "b3/surveillance",
}
_DATABASE = "MYBROKER_POSTGRES_"


def process_env(
    workload: Workload,
    *,
    namespace: str,
    session: str,
    given: Mapping[str, str],
    engines: Mapping[str, str],
    ports: Mapping[str, int],
    data_dir: Path,
    secrets_dir: Path,
) -> dict[str, str]:
    """Return the environment of one process; `ports` is by workload name, `engines` as `EngineUrls.as_env`."""
    env = {name: given[name] for name in PASSED_THROUGH if name in given}
    env |= {name: value for name, value in given.items() if name.startswith("MYBROKER_") and _DATABASE not in name}
    own_database = f"{_DATABASE}{workload.service.removeprefix('broker_').upper()}_URL"
    env |= {name: value for name, value in engines.items() if not name.startswith(_DATABASE) or name == own_database}
    env |= {
        f"MYBROKER_URL_{service.upper()}": f"http://127.0.0.1:{ports[name]}"
        for service, name in URL_OF_SERVICES.items()
        if name in ports
    }
    if workload.service == "b3_ingestor" and "BRAPI_TOKEN" in given:
        env["BRAPI_TOKEN"] = given["BRAPI_TOKEN"]
    env.setdefault("MYBROKER_DEMO_USER", "1")
    env |= {
        "MYBROKER_NAMESPACE": namespace,
        "MYBROKER_SESSION": session,
        "MYBROKER_DATA_DIR": str(data_dir),
        "MYBROKER_SECRETS_DIR": str(secrets_dir),
        "MYBROKER_HTTP_HOST": "127.0.0.1",
        "MYBROKER_HTTP_PORT": str(ports[workload.name]),
        "PYTHONUNBUFFERED": "1",
    }
    return env
