"""The pictures of report and dashboard, each a function that gives a chart of altair."""
