"""Files to and from many hosts."""
