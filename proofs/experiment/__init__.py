"""The frame of every proof: case, subject under test, measurements, trace, timeline."""
