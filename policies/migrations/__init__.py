"""How the ledger's schema came about, step by step, for Alembic. A step that is released is never changed."""
