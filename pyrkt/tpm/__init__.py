"""Measurements: what was launched, in a log that a TPM's register can be compared with."""
