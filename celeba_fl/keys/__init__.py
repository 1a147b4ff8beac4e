"""The run-config keys by subject: type, range, default, meaning, and the tasks that read them."""
