"""The life cycle of OCI containers: the verbs of ``pyrkt-oci``, one a module, in runc's grammar."""
