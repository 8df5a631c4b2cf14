"""The wire formats of the exchanges, from the server's side."""
