"""The ledger of cash and shares: holds, fills, deposits, balances, positions and the invariants they keep."""
