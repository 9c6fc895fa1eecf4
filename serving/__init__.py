"""The serving worker: champions of all tasks over HTTP. Imports no training library."""
