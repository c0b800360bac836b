"""The public feed: books, trades, phases and candles for any number of clients."""
