"""pyrkt-oci in the place of runc, under the engines that people use."""
