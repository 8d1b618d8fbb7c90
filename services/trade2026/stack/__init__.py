"""The manifest as a typed model, facts about each service, and the pure planner. Loads neither the shell nor a web framework."""
