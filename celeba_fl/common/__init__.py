"""Tools for every room: files, the log, errors, arrays, threads, and the code's own version."""
