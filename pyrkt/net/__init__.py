"""Networks of pods by CNI: configurations, plugins, their results, and the namespaces they work in."""
