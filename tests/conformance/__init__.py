"""The validation programs of the OCI runtime-tools, run against pyrkt-oci and its peers: `./scripts/conformance`."""
