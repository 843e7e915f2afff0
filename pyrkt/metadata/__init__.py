"""The appc metadata service of a pod: what it serves, where, and the key it signs with; stage1 is what serves it."""
