"""From the bytes of a layer or an ACI to a tree of files, believing nothing in them."""
