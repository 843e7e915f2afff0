"""The tests of pyrkt: unit/ needs nothing, integration/ needs root and the programs of others."""
