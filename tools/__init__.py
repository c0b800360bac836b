"""Programs of the house: bootstrap, lock, check and the house rules. Nothing here runs in the market."""
