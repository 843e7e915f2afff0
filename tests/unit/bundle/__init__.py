"""Tests of pyrkt.bundle."""
