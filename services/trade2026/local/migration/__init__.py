"""Moves a stack that is embedded (journals, stores in files) to servers: the log to Kafka, time series to QuestDB.

A move is a copy: what it is made from is only read, so there is always a way back. Each part can be killed at any
moment and goes on where it was, because what was written says by itself how far it reaches. At the end all of it is
read again and compared. Snapshots, history, audit and keys mean positions of the log, which stay what they were: they
are copied as files.
"""
