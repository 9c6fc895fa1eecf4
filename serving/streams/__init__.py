"""Messages from a stream through the one scoring path: Kafka, Kinesis, a file. Results to another, and to the store."""
