"""What people read of a run: buglog, HTML report, charts, the comparison of two runs."""
