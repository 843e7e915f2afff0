"""Tests of pyrkt.store."""
