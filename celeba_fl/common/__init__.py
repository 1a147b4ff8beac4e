"""What every room uses: files, the log, errors, arrays, and the code's own version."""
