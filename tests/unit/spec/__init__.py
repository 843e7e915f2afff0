"""Tests of pyrkt.spec."""
