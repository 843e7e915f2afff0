"""Tests that need neither root nor network; the folders are those of the package."""
