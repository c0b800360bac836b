"""The matching engine: B3's rules as a pure function of the command log. Start reading in `engine.py`."""
