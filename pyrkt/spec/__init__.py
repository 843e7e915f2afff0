"""Every document format that pyrkt reads or writes, as frozen types that read and write themselves; pure."""
