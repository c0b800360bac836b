"""Other brokers: market makers around real prices and noise traders, through the exchange's own door."""
