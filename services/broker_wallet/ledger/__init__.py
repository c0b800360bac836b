"""The ledger's rules: pure, told everything, touching nothing."""
