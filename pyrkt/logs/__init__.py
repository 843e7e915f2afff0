"""What apps have written, as the supervisor keeps it: CRI log lines in files of a bounded size and number."""
