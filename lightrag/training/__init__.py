"""Train memory models, compressors and estimators in plain torch: data, losses, a resumable loop. Starts no cluster."""
