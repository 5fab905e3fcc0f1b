"""Files and tables: written atomically, read strictly, identified by the hash of their contents."""
