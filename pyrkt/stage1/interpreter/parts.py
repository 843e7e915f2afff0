"""Tells CMake what the interpreter is made of: version;archive;headers;prefix;library. Nothing if it cannot be."""

import os
import sys
import sysconfig

configured = sysconfig.get_config_vars()
version = f"{sys.version_info[0]}.{sys.version_info[1]}"
archive = os.path.join(str(configured.get("LIBPL")), f"libpython{version}.a")
headers = sysconfig.get_path("include")
parts = (version, archive, headers, sys.base_prefix, sysconfig.get_path("stdlib"))
# The names behind CPython's interface that an image needs differ between its versions: this is the one it was made for.
if version == "3.11" and os.path.exists(archive) and os.path.exists(os.path.join(headers, "Python.h")):
    print(";".join(parts))
