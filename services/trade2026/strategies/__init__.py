"""The service that runs users' strategies, in a process of their own."""
