"""A stack in one process on virtual time: the machines of the services, with nothing between them but a clock."""
