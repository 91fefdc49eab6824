"""Objects, versioned artifacts, tables, records, and what keeps loaded state in memory.

Import the modules one by one: each brings the libraries that it needs, and no other.
"""
