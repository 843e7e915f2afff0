"""Tests of pyrkt.image.unpack."""
