"""One matcher per shard of a market: command log in, event log out."""
