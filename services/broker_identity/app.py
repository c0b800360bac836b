"""Wiring of identity."""

from mybroker.runtime.auth import internal_headers
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.postgres import migrate, open_pool
from services.broker_identity.api import Api
from services.broker_identity.opening import WALLET, Openings
from services.broker_identity.passwords import MEMORY_KIB, Passwords
from services.broker_identity.store import MIGRATIONS, Store
from services.broker_identity.tokens import SigningKeys

SERVICE = "broker_identity"
OPENING_CASH_CENTS = 100_000_00
DEMO_CASH_CENTS = 1_000_000_00
DEMO_SHARES_EACH = 10_000
DEMO = "demo"


async def start(context: AppContext) -> None:
    """Start identity: database, keys, the payer of openings, HTTP."""
    settings = context.settings
    context.readiness.declare("database")
    keys = SigningKeys(settings.path("MYBROKER_SECRETS_DIR"))
    passwords = Passwords(memory_kib=settings.integer("MYBROKER_ARGON2_MEMORY_KIB", MEMORY_KIB))
    wallet = HttpClient({WALLET: settings.service_url(WALLET)})
    context.on_stop("wallet_client", wallet.close)
    pool = await open_pool(settings.postgres_url("identity"), name=SERVICE)
    context.on_stop("database", pool.close)
    await migrate(pool, SERVICE, MIGRATIONS)
    store = Store(pool)
    openings = Openings(context, store, wallet, internal_headers(settings))
    if settings.environ.get("MYBROKER_DEMO_USER") == "1":
        await add_demo_user(context, store, passwords)
    api = Api(
        context,
        store,
        keys,
        passwords,
        openings,
        opening_cash_cents=settings.integer("MYBROKER_OPENING_CASH_CENTS", OPENING_CASH_CENTS),
    )
    context.supervise("openings", openings.run())
    context.readiness.open("database")
    app = build_app(SERVICE, api.routes(), context.readiness)
    context.supervise("http", serve(app, settings.http_host, settings.http_port, context))


async def add_demo_user(context: AppContext, store: Store, passwords: Passwords) -> None:
    """Add demo/demo with cash and shares, unless it is there. For the local default only."""
    if await store.find_user(DEMO) is not None:
        return
    user = await store.add_user(
        user_id=context.ids.new_id(),
        username=DEMO,
        password_hash=await passwords.hash(DEMO),
        cash_cents=context.settings.integer("MYBROKER_DEMO_CASH_CENTS", DEMO_CASH_CENTS),
        shares_each=context.settings.integer("MYBROKER_DEMO_SHARES", DEMO_SHARES_EACH),
        address="local",
    )
    if user is not None:
        context.log.info("demo_user_added", account=user.account)
