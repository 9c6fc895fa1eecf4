"""The nouns every room shares: settings, tasks, records, store, registry, signatures."""

__version__ = "0.1.0"
