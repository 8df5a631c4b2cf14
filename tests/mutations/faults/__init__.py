"""The faults, by the area of the product that they are in."""
