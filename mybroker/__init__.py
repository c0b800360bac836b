"""My Broker B3: a stock market simulator; the library that every process shares, low to high."""
