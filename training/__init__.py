"""From labelled messages to a model folder the gate has judged."""
