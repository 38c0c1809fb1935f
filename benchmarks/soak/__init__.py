"""Half an hour of everything at once, and the ledger of both sides balanced at the end."""
