"""Several machines on one inbox, over NATS JetStream. Imported only with the extra `cluster`."""
