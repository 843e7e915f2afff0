"""The compiler: a container's config.json in, the flat list of steps that stage1 carries out."""
