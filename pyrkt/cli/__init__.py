"""The command line of ``pyrkt``: what was asked, as values; what came of it, as lines, tables or JSON."""
