"""pyrkt: a container runtime that proves where an image came from, and shows every step before it runs it."""

__version__ = "0.1.0"
