"""The wallet's tables. A released step never changes: a change is a new step.

Transfers reference accounts by id without a foreign key: its check would lock the house's rows in every transaction.
Transfers are never updated or deleted, and a trigger says so.
"""

from typing import Final, LiteralString

from mybroker.runtime.outbox import OUTBOX_DDL

_LEDGER: Final[LiteralString] = """
create table ledger_account (
    id              bigint generated always as identity primary key,
    owner           text   not null,
    asset           text   not null,
    house           boolean not null,
    debits_posted   bigint not null default 0,
    credits_posted  bigint not null default 0,
    debits_pending  bigint not null default 0,
    credits_pending bigint not null default 0,
    cost_cents      bigint not null default 0,
    realised_cents  bigint not null default 0,
    unique (owner, asset),
    check (house or credits_posted - debits_posted - debits_pending >= 0),
    check (debits_pending >= 0 and credits_pending >= 0),
    check (not house or (debits_posted, credits_posted, debits_pending, credits_pending) = (0, 0, 0, 0))
);

create table ledger_transfer (
    number          bigint generated always as identity primary key,
    id              text   not null unique,
    kind            text   not null check (kind in ('posted', 'pending', 'post', 'void')),
    purpose         text   not null,
    debit_account   bigint not null,
    credit_account  bigint not null,
    asset           text   not null,
    amount          bigint not null check (amount > 0),
    released        bigint not null default 0 check (released >= 0),
    value_cents     bigint not null default 0,
    pending_id      text unique,
    link            text   not null,
    order_id        text,
    revision        integer,
    trade_id        text,
    at_ns           bigint not null,
    made_at         timestamptz not null default now(),
    check ((kind in ('post', 'void')) = (pending_id is not null)),
    check (debit_account <> credit_account)
);
create index ledger_transfer_debit on ledger_transfer (debit_account, number);
create index ledger_transfer_credit on ledger_transfer (credit_account, number);
create index ledger_transfer_link on ledger_transfer (link);

create function ledger_transfer_stands() returns trigger language plpgsql as
$$ begin raise exception 'a transfer is never changed: correct it by a new one'; end $$;
create trigger ledger_transfer_stands before update or delete on ledger_transfer
    for each row execute function ledger_transfer_stands();
create trigger ledger_transfer_stays before truncate on ledger_transfer
    for each statement execute function ledger_transfer_stands();

create view ledger_entry_total as
with entry as (
    select debit_account as account,
           case when kind in ('posted', 'post') then amount else 0 end as debits_posted, 0 as credits_posted,
           case kind when 'pending' then amount when 'post' then -amount - released when 'void' then -amount else 0 end
               as debits_pending, 0 as credits_pending
    from ledger_transfer
    union all
    select credit_account, 0, case when kind in ('posted', 'post') then amount else 0 end, 0,
           case kind when 'pending' then amount when 'post' then -amount - released when 'void' then -amount else 0 end
    from ledger_transfer
)
select account, sum(debits_posted) as debits_posted, sum(credits_posted) as credits_posted,
       sum(debits_pending) as debits_pending, sum(credits_pending) as credits_pending
from entry group by account;

create table order_hold (
    order_id        text    primary key,
    owner           text    not null,
    asset           text    not null,
    side            text    not null,
    revision        integer not null,
    quantity_shares bigint  not null,
    price_ticks     bigint  not null,
    next_revision        integer,
    next_quantity_shares bigint,
    next_price_ticks     bigint,
    filled_shares   bigint  not null,
    amount          bigint  not null check (amount >= 0),
    pending_id      text,
    reopened        integer not null,
    closed          boolean not null,
    check ((amount > 0) = (pending_id is not null))
);
create index order_hold_open on order_hold (owner) where not closed;

create table ledger_answer (
    key             text   primary key,
    content         text   not null,
    held            bigint not null,
    reason          text
);

create table kafka_position (
    topic           text    not null,
    partition       integer not null,
    next_offset     bigint  not null,
    primary key (topic, partition)
);
"""

MIGRATIONS: Final[tuple[LiteralString, ...]] = (_LEDGER, OUTBOX_DDL)
