"""What crosses between processes, written once: commands, events, topics, the door, the directory, MarketSession."""
