"""What a service is made of that stores topics elsewhere: the way of one topic into one table, and the table's upkeep."""
