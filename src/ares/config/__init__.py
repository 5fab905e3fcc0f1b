"""The typed configuration: schema, composition, validation, and the command line."""
