"""The appc specification's own validator of executors, run in pods of pyrkt's: `./scripts/ace`."""
