"""The catalogue of instruments and their last quotes."""
