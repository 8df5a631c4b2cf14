"""Tables of each exchange's frames and what they decode to, one module for each kind of exchange."""
