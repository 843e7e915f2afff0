"""Images: named, found, fetched, proved and unpacked."""
