"""Tests of pyrkt.base."""
