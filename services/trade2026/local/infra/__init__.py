"""Kafka, QuestDB, SeaweedFS and Valkey as ordinary processes on this machine, for a stack whose manifest asks for them."""
