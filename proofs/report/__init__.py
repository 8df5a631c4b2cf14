"""What people read of a run: the buglog with its logs, the HTML report with its charts, the comparison of two runs."""
