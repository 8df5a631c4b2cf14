"""The mutation score: faults in the product, each of which something has to catch."""
