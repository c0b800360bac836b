"""The tables of broker_orders. A released step never changes: a change is a new step."""

from typing import Final, LiteralString

from mybroker.runtime.outbox import OUTBOX_DDL

_ORDERS: Final[LiteralString] = """
create table account (
    account     text    primary key,
    last_seq    bigint  not null default 0,
    orders_open integer not null default 0
);

create table orders (
    order_id                text    primary key,
    account                 text    not null,
    client_order_id         text    not null,
    content                 text    not null,
    session_key             text    not null,
    ticker                  text    not null,
    side                    text    not null,
    type                    text    not null,
    time_in_force           text    not null,
    quantity_shares         bigint  not null,
    price_ticks             bigint,
    protection_price_ticks  bigint,
    hold_price_ticks        bigint,
    created_at_ns           bigint  not null,
    updated_at_ns           bigint  not null,
    status                  text    not null,
    reason                  text,
    routed                  boolean not null,
    accepted                boolean not null,
    ended                   text,
    cum_shares              bigint  not null,
    filled_cents            bigint  not null,
    terms_revision          integer not null,
    last_revision           integer not null,
    answered_revision       integer not null,
    pending                 text,
    pending_revision        integer not null,
    pending_routed          boolean not null,
    pending_quantity_shares bigint,
    pending_price_ticks     bigint,
    waiting_since_ns        bigint,
    unique (account, client_order_id)
);
create index orders_of_account on orders (account, order_id);
create index orders_waiting on orders (waiting_since_ns) where waiting_since_ns is not null;

create table order_fill (
    order_id        text    not null,
    trade_id        text    not null,
    market          text    not null,
    price_ticks     bigint  not null,
    quantity_shares bigint  not null,
    at_ns           bigint  not null,
    busted          boolean not null default false,
    primary key (order_id, trade_id)
);

create table private_event (
    account text   not null,
    seq     bigint not null,
    source  text   unique,
    event   json   not null,
    primary key (account, seq)
);

create table report_position (
    session_key text    not null,
    market      text    not null,
    shard       integer not null,
    log_id      text    not null,
    last_number bigint  not null,
    primary key (session_key, market, shard, log_id)
);

create table kafka_position (
    topic       text    not null,
    partition   integer not null,
    next_offset bigint  not null,
    primary key (topic, partition)
);
"""

MIGRATIONS: Final[tuple[LiteralString, ...]] = (_ORDERS, OUTBOX_DDL)
