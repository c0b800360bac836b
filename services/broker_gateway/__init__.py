"""The broker's one public door: routing, tokens, limits, breakers, the stream and the page."""
