"""The exchange's door for brokers: requests in front, the command and event logs behind."""
