"""What the kernel makes of a plan, one file a facility."""
