"""The SQLite database: opening, schema, writing, checkpoints and retention."""
