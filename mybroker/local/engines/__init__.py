"""The real engines a session runs on, started from packages: Kafka, PostgreSQL, Valkey, MongoDB's protocol, RabbitMQ.

Start at `facade.Engines`. One module per engine; what they share lives beside them: `model` (the words), `children`
(processes that die with us), `ports`, `passwords`, `downloads`, `ordinary_user`. `machine` says what this machine has.
"""
